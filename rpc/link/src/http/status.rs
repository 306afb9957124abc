//! A bare question to somebody else's HTTP server.

use std::error::Error as _;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Error};

/// The status that a GET of `url` is answered with; no redirect is followed and no connection kept.
/// The error is a few words.
pub async fn get_status(url: &str, limit: Duration) -> Result<u16, String> {
    let client = client().ok_or_else(|| "the HTTP client could not be made".to_owned())?;
    let response = client.get(url).timeout(limit).send().await;
    response.map(|response| response.status().as_u16()).map_err(|error| words(&error, limit))
}

fn client() -> Option<&'static Client> {
    static CLIENT: OnceLock<Option<Client>> = OnceLock::new();
    let make = || {
        // A connection that is kept says nothing of whether a new one would be accepted.
        let client = super::plain_client().redirect(Policy::none()).pool_max_idle_per_host(0);
        client.user_agent("knit-agent").build().ok()
    };
    CLIENT.get_or_init(make).as_ref()
}

/// The innermost cause says what happened.
fn words(error: &Error, limit: Duration) -> String {
    if error.is_timeout() {
        return format!("no answer within {} ms", limit.as_millis());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
            }
        });
        url
    }

    #[tokio::test]
    async fn the_status_is_told_and_no_redirect_followed() {
        let limit = Duration::from_secs(5);
        for (answer, status) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", 204),
            ("HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", 302),
            ("HTTP/1.0 503 Busy\r\n\r\n", 503),
        ] {
            assert_eq!(get_status(&server(answer).await, limit).await, Ok(status));
        }
    }

    #[tokio::test]
    async fn no_answer_is_said_in_a_few_words() {
        let limit = Duration::from_millis(200);
        let silent = get_status(&server("").await, limit).await;
        assert_eq!(silent, Err("no answer within 200 ms".to_owned()));
        let refused = get_status("http://127.0.0.1:1/", limit).await;
        assert_eq!(refused, Err("connection refused".to_owned()));
    }
}
