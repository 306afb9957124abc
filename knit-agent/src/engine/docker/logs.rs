//! What a container wrote last.

use std::collections::VecDeque;

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;

use super::Docker;
use crate::engine::EngineError;

pub(super) async fn tail(
    docker: &Docker,
    container: &str,
    lines: usize,
) -> Result<Vec<String>, EngineError> {
    let client = docker.client()?;
    let options =
        LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string()).build();
    let mut pieces = Box::pin(client.logs(container, Some(options)));
    // Docker hands out whole lines, of either stream, in the order in which it read them.
    let mut tail = VecDeque::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| docker.refusal(&error))?.into_bytes();
        let text = String::from_utf8_lossy(&piece);
        for line in text.lines() {
            if tail.len() == lines {
                tail.pop_front();
            }
            tail.push_back(line.trim_end_matches('\r').to_owned());
        }
    }
    Ok(tail.into())
}
