//! `GET /events`: server-sent events, read line by line.

use knit_rpc::event::Event;
use reqwest::Response;

use super::HttpError;

/// Bytes of one event, at most: a server that never ends a line must not fill our memory.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Events of one connection, in order.
pub struct EventStream {
    url: String,
    response: Response,
    buffer: Vec<u8>,
}

impl EventStream {
    pub(super) fn new(url: String, response: Response) -> Self {
        Self { url, response, buffer: Vec::new() }
    }

    /// The next event; `None` when the server ended the stream.
    pub async fn next(&mut self) -> Result<Option<Event>, HttpError> {
        loop {
            while let Some(line) = take_line(&mut self.buffer) {
                if let Some(event) = parse(&line) {
                    return Ok(Some(event));
                }
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                return Ok(None);
            }
            let chunk = self.response.chunk().await;
            match chunk.map_err(|source| HttpError::Answer { url: self.url.clone(), source })? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

fn take_line(buffer: &mut Vec<u8>) -> Option<String> {
    let end = buffer.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = buffer.drain(..=end).collect();
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Comments, ids and events of a kind that this version does not know are passed over.
fn parse(line: &str) -> Option<Event> {
    serde_json::from_str(line.strip_prefix("data:")?.trim_start()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_whole_and_strange_ones_are_passed_over() {
        let mut buffer = b": keep-alive\r\ndata: {\"half".to_vec();
        assert_eq!(take_line(&mut buffer).as_deref(), Some(": keep-alive"));
        assert_eq!(take_line(&mut buffer), None);
        assert_eq!(parse(": keep-alive"), None);
        assert_eq!(parse("data: {\"type\":\"from-tomorrow\"}"), None);
        let known = r#"data: {"sequence":1,"at":2,"type":"deployment-removed","project":"default","deployment":"a"}"#;
        assert_eq!(parse(known).map(|event| event.sequence), Some(1));
    }
}
