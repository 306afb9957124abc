//! Newline framing over a Unix socket for jsonrpsee's client, and the cleaning of answer lines.
//!
//! Invariant: what leaves [`Receiver`] is one JSON object that jsonrpsee can parse, or an error
//! that ends the connection. A line that cannot be matched to a request is such an error.

use std::path::Path;
use std::time::Duration;

use jsonrpsee::core::client::{
    Client, ClientBuilder, ReceivedMessage, TransportReceiverT, TransportSenderT,
};
use knit_rpc::jsonrpc::{REQUEST_LINE_MAX_BYTES, RESPONSE_LINE_MAX_BYTES};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Longest piece of a peer's line that is quoted in an error.
const QUOTE_MAX_CHARS: usize = 80;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error("could not use the socket")]
    Io(#[from] std::io::Error),
    #[error("no connection after {} s", CONNECT_MAX.as_secs())]
    ConnectTimeout,
    #[error("the daemon closed the connection")]
    Closed,
    #[error("the answer is longer than {RESPONSE_LINE_MAX_BYTES} bytes")]
    LineTooLong,
    #[error("the request is longer than {REQUEST_LINE_MAX_BYTES} bytes")]
    RequestTooLong,
    #[error("the answer is not a JSON-RPC object: `{0}`")]
    Garbage(String),
    #[error("the daemon refused a request without saying which: {0}")]
    ErrorWithoutId(String),
}

/// Connects to `path`; the client answers one request within `request_max` or not at all.
pub(super) async fn connect(path: &Path, request_max: Duration) -> Result<Client, SocketError> {
    let stream = tokio::time::timeout(CONNECT_MAX, UnixStream::connect(path))
        .await
        .map_err(|_| SocketError::ConnectTimeout)??;
    let (read, write) = stream.into_split();
    let receiver = Receiver { lines: BufReader::new(read), line: Vec::new() };
    Ok(ClientBuilder::default()
        .request_timeout(request_max)
        .build_with_tokio(Sender(write), receiver))
}

struct Sender(OwnedWriteHalf);

impl TransportSenderT for Sender {
    type Error = SocketError;

    async fn send(&mut self, mut request: String) -> Result<(), SocketError> {
        if request.len() > REQUEST_LINE_MAX_BYTES {
            return Err(SocketError::RequestTooLong);
        }
        request.push('\n');
        Ok(self.0.write_all(request.as_bytes()).await?)
    }

    async fn close(&mut self) -> Result<(), SocketError> {
        Ok(self.0.shutdown().await?)
    }
}

struct Receiver {
    lines: BufReader<OwnedReadHalf>,
    /// Keeps a line read in part when `receive` is cancelled.
    line: Vec<u8>,
}

impl TransportReceiverT for Receiver {
    type Error = SocketError;

    async fn receive(&mut self) -> Result<ReceivedMessage, SocketError> {
        let room = (RESPONSE_LINE_MAX_BYTES + 1).saturating_sub(self.line.len());
        let room = u64::try_from(room).unwrap_or(u64::MAX);
        (&mut self.lines).take(room).read_until(b'\n', &mut self.line).await?;
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return Err(SocketError::Closed);
        }
        if line.len() > RESPONSE_LINE_MAX_BYTES {
            return Err(SocketError::LineTooLong);
        }
        Ok(ReceivedMessage::Text(clean(&line)?))
    }
}

/// Turns a daemon's line into one that jsonrpsee takes: no `"error":null`, a whole-number id.
fn clean(line: &[u8]) -> Result<String, SocketError> {
    let text = String::from_utf8_lossy(line);
    let Ok(Value::Object(mut object)) = serde_json::from_str::<Value>(text.trim()) else {
        return Err(SocketError::Garbage(quote(&text)));
    };
    if object.get("error").is_some_and(Value::is_null) {
        object.remove("error");
    }
    if object.contains_key("error") {
        object.remove("result");
    }
    if object.contains_key("method") {
        return Ok(Value::Object(object).to_string());
    }
    let Some(id) = whole_id(object.get("id")) else {
        return Err(match error_message(&object) {
            Some(message) => SocketError::ErrorWithoutId(quote(message)),
            None => SocketError::Garbage(quote(&text)),
        });
    };
    object.insert("id".into(), id.into());
    if !object.contains_key("error") && !object.contains_key("result") {
        return Err(SocketError::Garbage(quote(&text)));
    }
    Ok(Value::Object(object).to_string())
}

fn whole_id(id: Option<&Value>) -> Option<u64> {
    match id? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
            format!("{float:.0}").parse().ok()
        }),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn error_message(object: &Map<String, Value>) -> Option<&str> {
    object.get("error")?.get("message")?.as_str()
}

/// A short piece of a hostile string, fit for a terminal.
fn quote(text: &str) -> String {
    let shown = text.trim().chars().take(QUOTE_MAX_CHARS);
    shown.map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cleaned_or_refused() {
        let good = [
            (r#"{"jsonrpc":"2.0","result":1,"id":0}"#, r#"{"id":0,"jsonrpc":"2.0","result":1}"#),
            (r#"{"result":1,"error":null,"id":7}"#, r#"{"id":7,"result":1}"#),
            (
                r#"{"result":null,"error":{"code":-1,"message":"x"},"id":"3"}"#,
                r#"{"error":{"code":-1,"message":"x"},"id":3}"#,
            ),
            (" {\"result\":1,\"id\":2.0}\r\n", r#"{"id":2,"result":1}"#),
            (r#"{"method":"mesh.watch","params":{}}"#, r#"{"method":"mesh.watch","params":{}}"#),
        ];
        for (line, expected) in good {
            let cleaned: Value = serde_json::from_str(&clean(line.as_bytes()).unwrap()).unwrap();
            assert_eq!(cleaned, serde_json::from_str::<Value>(expected).unwrap(), "{line}");
        }
        let bad = [
            ("garbage\n", "the answer is not a JSON-RPC object: `garbage`"),
            ("\x1b[31m\n", "the answer is not a JSON-RPC object: `\u{fffd}[31m`"),
            ("[1]", "the answer is not a JSON-RPC object: `[1]`"),
            (r#"{"id":1}"#, "the answer is not a JSON-RPC object: `{\"id\":1}`"),
            (
                r#"{"error":{"code":-32700,"message":"no"},"id":null}"#,
                "the daemon refused a request without saying which: no",
            ),
        ];
        for (line, expected) in bad {
            assert_eq!(clean(line.as_bytes()).unwrap_err().to_string(), expected, "{line}");
        }
    }
}
