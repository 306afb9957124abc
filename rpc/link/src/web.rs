//! HTTP and HTTPS to servers that are not Knit's: an identity provider.
//!
//! Invariant: an answer is read to a bound and within a time, and no redirect is followed: where it
//! would lead is the other server's choice.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, StatusCode};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum WebError {
    #[error("the HTTPS client could not be made")]
    Client(#[source] reqwest::Error),
    #[error("{host} does not answer")]
    Unreachable { host: String, source: reqwest::Error },
    #[error("{host} broke off its answer")]
    Answer { host: String, source: reqwest::Error },
    #[error("the answer of {host} is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong { host: String },
}

/// A client that trusts the certificates that this host trusts.
#[derive(Debug, Clone)]
pub struct WebClient(Client);

/// An answer, whole.
#[derive(Debug)]
pub struct WebAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Says by what TLS is done, which a client cannot be made without.
pub(crate) fn choose_cryptography() {
    // Whoever was first has chosen the same.
    drop(rustls::crypto::ring::default_provider().install_default());
}

impl WebClient {
    pub fn new() -> Result<Self, WebError> {
        choose_cryptography();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .redirect(Policy::none())
            .build()
            .map_err(WebError::Client)?;
        Ok(Self(client))
    }

    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<WebAnswer, WebError> {
        let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next());
        let host = authority.unwrap_or(url).to_owned();
        let request = self.0.request(method, url).headers(headers).body(body);
        let response = match request.send().await {
            Ok(response) => response,
            // An address may hold what nobody else should read.
            Err(error) => {
                return Err(WebError::Unreachable { host, source: error.without_url() });
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let (mut stream, mut body) = (response.bytes_stream(), Vec::new());
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) if body.len() + chunk.len() <= ANSWER_BYTES_MAX => {
                    body.extend_from_slice(&chunk);
                }
                Ok(_) => return Err(WebError::TooLong { host }),
                Err(error) => return Err(WebError::Answer { host, source: error.without_url() }),
            }
        }
        Ok(WebAnswer { status, headers, body })
    }
}
