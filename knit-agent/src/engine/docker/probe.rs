//! Asks a container whether it is well.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures_util::StreamExt as _;
use knit_agent_core::probe::Answer;
use knit_rpc::spec::ProbeKind;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Docker;
use crate::engine::EngineError;

/// Commands of one container that go on after their time was up, at most: Docker cannot end them.
const HANGING_MAX: usize = 4;
/// Characters of a command's output that an answer quotes, at most.
const OUTPUT_CHARS_MAX: usize = 200;
/// Bytes of a command's output that are read before the rest is passed over.
const OUTPUT_BYTES_MAX: usize = 4096;

/// Commands that did not end in time, by container: their ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Hanging {
    execs: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
}

impl Hanging {
    fn of(&self, container: &str) -> Vec<String> {
        let execs = self.execs.lock().unwrap_or_else(PoisonError::into_inner);
        execs.get(container).cloned().unwrap_or_default()
    }

    fn set(&self, container: &str, ids: Vec<String>) {
        let mut execs = self.execs.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.is_empty() {
            execs.remove(container);
        } else {
            execs.insert(container.to_owned(), ids);
        }
    }
}

pub(super) async fn ask(
    docker: &Docker,
    container: &str,
    address: Option<Ipv4Addr>,
    kind: &ProbeKind,
    limit: Duration,
) -> Answer {
    match (kind, address) {
        (ProbeKind::Exec { command }, _) => {
            run(docker, container, command, limit).await.unwrap_or_else(|error| match error {
                EngineError::Unreachable { .. } => Answer::Unasked,
                EngineError::Refused { words, .. } | EngineError::Unauthorized { words } => {
                    Answer::Ill(words)
                }
            })
        }
        (_, None) => Answer::Ill("it has no address".to_owned()),
        (ProbeKind::Http { path, port }, Some(address)) => {
            let url = format!("http://{address}:{port}{path}");
            match knit_link::http::get_status(&url, limit).await {
                Ok(200..400) => Answer::Well,
                Ok(status) => Answer::Ill(format!("status {status}")),
                Err(words) => Answer::Ill(words),
            }
        }
        (ProbeKind::Tcp { port }, Some(address)) => {
            let connecting = TcpStream::connect(SocketAddr::from((address, *port)));
            match timeout(limit, connecting).await {
                Ok(Ok(_)) => Answer::Well,
                Ok(Err(error)) => Answer::Ill(words(&error)),
                Err(_) => Answer::Ill(late(limit)),
            }
        }
    }
}

/// The system's words without its number.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn late(limit: Duration) -> String {
    format!("no answer within {} ms", limit.as_millis())
}

async fn run(
    docker: &Docker,
    container: &str,
    command: &[String],
    limit: Duration,
) -> Result<Answer, EngineError> {
    let mut hanging = still_running(docker, container).await;
    docker.hanging.set(container, hanging.clone());
    if hanging.len() >= HANGING_MAX {
        return Ok(Answer::Ill(format!("{HANGING_MAX} earlier runs of it still hang")));
    }
    let client = docker.client()?;
    let config = ExecConfig {
        cmd: Some(command.to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let Ok(created) = timeout(limit, client.create_exec(container, config)).await else {
        return Ok(Answer::Ill(late(limit)));
    };
    let id = created.map_err(|error| docker.refusal(&error))?.id;
    let running = async {
        let started = client.start_exec(&id, None).await?;
        let mut text = Vec::new();
        if let StartExecResults::Attached { mut output, input: _input } = started {
            while let Some(piece) = output.next().await {
                let piece = piece?.into_bytes();
                let room = OUTPUT_BYTES_MAX.saturating_sub(text.len());
                text.extend_from_slice(&piece[..piece.len().min(room)]);
            }
        }
        Ok((client.inspect_exec(&id).await?.exit_code, text))
    };
    match timeout(limit, running).await {
        Ok(Ok((Some(0), _))) => Ok(Answer::Well),
        Ok(Ok((code, text))) => Ok(Answer::Ill(refused(code, &String::from_utf8_lossy(&text)))),
        Ok(Err(error)) => Err(docker.refusal(&error)),
        Err(_) => {
            hanging.push(id);
            docker.hanging.set(container, hanging);
            Ok(Answer::Ill(late(limit)))
        }
    }
}

async fn still_running(docker: &Docker, container: &str) -> Vec<String> {
    let mut running = Vec::new();
    let Ok(client) = docker.client() else { return running };
    for id in docker.hanging.of(container) {
        if client.inspect_exec(&id).await.is_ok_and(|exec| exec.running == Some(true)) {
            running.push(id);
        }
    }
    running
}

fn refused(code: Option<i64>, output: &str) -> String {
    let code = code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
    let output: String = output
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(OUTPUT_CHARS_MAX)
        .collect();
    if output.is_empty() { code } else { format!("{code}: {output}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_failed_is_quoted_in_one_line() {
        assert_eq!(refused(Some(1), " no\n route \n"), "exit code 1: no route");
        assert_eq!(refused(Some(2), ""), "exit code 2");
        assert_eq!(refused(Some(2), &"x".repeat(500)).len(), "exit code 2: ".len() + 200);
    }

    #[tokio::test]
    async fn a_port_that_nobody_has_is_refused_in_words() {
        let docker = Docker::new("/nonexistent/docker.sock");
        let local = Some(Ipv4Addr::LOCALHOST);
        let limit = Duration::from_secs(1);
        for kind in [ProbeKind::Tcp { port: 1 }, ProbeKind::Http { path: "/".to_owned(), port: 1 }]
        {
            let answer = ask(&docker, "x", local, &kind, limit).await;
            assert_eq!(answer, Answer::Ill("connection refused".to_owned()), "{kind}");
            let nowhere = ask(&docker, "x", None, &kind, limit).await;
            assert_eq!(nowhere, Answer::Ill("it has no address".to_owned()));
        }
        let command = ProbeKind::Exec { command: vec!["true".to_owned()] };
        let unasked = ask(&docker, "x", local, &command, limit).await;
        assert_eq!(unasked, Answer::Unasked, "a Docker that is away says nothing");
    }
}
