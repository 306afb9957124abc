//! `knit node drain`: follows until nothing is left, or says what keeps the rest.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use knit_link::http::{ApiClient, HttpError};
use knit_rpc::api::{Availability, NodePatch};
use knit_rpc::id::NodeId;
use knit_runtime::terminal::{Colour, colour_stderr, eprintln, printable};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::find::find;
use crate::cli::DrainArgs;
use crate::server;

const POLL: Duration = Duration::from_millis(250);
/// How long nothing may change before what is left is taken to stay.
const STALL: Duration = Duration::from_secs(10);

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
enum Drained {
    Empty,
    /// What is left, each with what keeps it.
    Kept(BTreeSet<String>),
    TimedOut(BTreeSet<String>),
    /// Somebody took the node back into use.
    Undrained,
    Interrupted,
}

pub(super) async fn run(args: DrainArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.server).await?;
    let (name, id) = find(&client, &args.node).await?;
    let name = printable(&name);
    let patch = NodePatch { availability: Some(Availability::Draining), ..NodePatch::default() };
    client.patch_node(&id, &patch).await?;
    eprintln(&format!("{name} gets nothing new, and what it runs moves away"));
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let drained = tokio::select! {
        drained = follow(&client, &id, Duration::from_secs(args.timeout)) => drained?,
        _ = interrupt.recv() => Drained::Interrupted,
    };
    Ok(report(&name, &drained))
}

async fn follow(client: &ApiClient, id: &NodeId, timeout: Duration) -> Result<Drained, HttpError> {
    let (start, mut changed) = (Instant::now(), Instant::now());
    let mut left = BTreeSet::new();
    let mut instances = None;
    loop {
        match client.node(id).await {
            Ok(node) if node.availability != Availability::Draining => {
                return Ok(Drained::Undrained);
            }
            Ok(node) if node.instances == 0 => return Ok(Drained::Empty),
            Ok(node) => {
                let now: BTreeSet<String> = node.draining.into_iter().collect();
                for sentence in now.difference(&left) {
                    eprintln(&format!("  {}", printable(sentence)));
                }
                if now != left || instances != Some(node.instances) {
                    (left, instances, changed) = (now, Some(node.instances), Instant::now());
                }
            }
            // A server that restarts meanwhile goes on where it was.
            Err(HttpError::Unreachable { .. }) => changed = Instant::now(),
            Err(error) => return Err(error),
        }
        if changed.elapsed() >= STALL && !left.iter().any(|sentence| is_moving(sentence)) {
            return Ok(Drained::Kept(left));
        }
        if start.elapsed() > timeout {
            return Ok(Drained::TimedOut(left));
        }
        sleep(POLL).await;
    }
}

/// Whether its replacement is on its way, however long its image is pulled.
fn is_moving(sentence: &str) -> bool {
    sentence.contains(" moves to ")
}

fn report(name: &str, drained: &Drained) -> ExitCode {
    let (text, code) = outcome(name, drained);
    eprintln(&text);
    ExitCode::from(code)
}

fn outcome(name: &str, drained: &Drained) -> (String, u8) {
    let list = |left: &BTreeSet<String>| {
        let lines = left.iter().map(|sentence| format!("\n  {}", printable(sentence)));
        lines.collect::<Vec<_>>().concat()
    };
    match drained {
        Drained::Empty => (colour_stderr(Colour::Green, &format!("{name} is empty")), 0),
        Drained::Kept(left) => {
            let text =
                format!("{name} is not empty, and what is left stays for now:{}", list(left));
            (colour_stderr(Colour::Yellow, &text), 3)
        }
        Drained::TimedOut(left) => {
            (format!("{name} is not empty yet; the server goes on:{}", list(left)), 4)
        }
        Drained::Undrained => (format!("{name} was taken back into use meanwhile"), 5),
        Drained::Interrupted => {
            (format!("no longer waiting; the server goes on: see `knit node show {name}`"), 130)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_named_with_what_keeps_it() {
        let left = BTreeSet::from(["db.0 stays with its volume data".to_owned()]);
        let (text, code) = outcome("fra-1", &Drained::Kept(left));
        assert_eq!(code, 3);
        assert!(text.ends_with(":\n  db.0 stays with its volume data"), "{text}");
        assert_eq!(outcome("fra-1", &Drained::Empty), ("fra-1 is empty".to_owned(), 0));
        assert!(
            is_moving("web.1 moves to fra-2: pulling")
                && !is_moving("web.1 has no other place yet")
        );
    }
}
