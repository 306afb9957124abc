//! How following ended, in words and as an exit code.

use std::process::ExitCode;
use std::time::Duration;

use knit_rpc::api::{DeploymentView, Unplaced};
use knit_runtime::terminal::{Colour, colour_stderr, printable};

use crate::commands::show::log_lines;

/// Nodes whose reasons are told, at most; `-o json` of `knit status` has them all.
const REASONS_SHOWN_MAX: usize = 20;

/// How it ended. Lines of a log are the last ones of the instance that is to blame.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::commands) enum Outcome {
    /// Every replica of the revision runs.
    Running(u32),
    /// It cannot run; the sentences say why.
    Impossible(Vec<String>, Vec<String>),
    /// It failed, and a revision before it runs again: which, why, and what it wrote last.
    RolledBack(Option<u64>, String, Vec<String>),
    /// Somebody wanted to go back to this revision, and it runs again.
    WentBack(u64),
    /// It waits for somebody to say how to go on.
    Paused(String, Vec<String>),
    /// It does not run yet, and our time is over.
    TimedOut(Duration),
    /// Somebody deployed another revision meanwhile.
    Superseded(u64),
    /// Somebody removed it meanwhile.
    Removed,
    /// The user wants to wait no longer.
    Interrupted,
}

impl Outcome {
    pub(in crate::commands) fn code(&self) -> u8 {
        match self {
            Self::Running(_) | Self::WentBack(_) => 0,
            Self::Impossible(..) => 3,
            Self::TimedOut(_) => 4,
            Self::Superseded(_) | Self::Removed => 5,
            Self::RolledBack(..) => 6,
            Self::Paused(..) => 7,
            Self::Interrupted => 130,
        }
    }

    pub(in crate::commands) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    pub(super) fn describe(&self, name: &str) -> String {
        match self {
            Self::Running(0) => colour_stderr(Colour::Green, &format!("{name} runs: no replicas")),
            Self::Running(replicas) => {
                colour_stderr(Colour::Green, &format!("{name} runs: {replicas} of {replicas}"))
            }
            Self::Impossible(reasons, log) => {
                let lines: Vec<String> = reasons.iter().map(|reason| printable(reason)).collect();
                let text = match lines.as_slice() {
                    [only] => format!("{name} cannot run: {only}"),
                    lines => format!("{name} cannot run:\n  {}", lines.join("\n  ")),
                };
                with_log(&colour_stderr(Colour::Red, &text), log)
            }
            Self::RolledBack(to, reason, log) => {
                let to =
                    to.map_or_else(|| "back".to_owned(), |to| format!("back to revision {to}"));
                let text = format!("{name} was rolled {to}: {}", printable(reason));
                with_log(&colour_stderr(Colour::Red, &text), log)
            }
            Self::WentBack(to) => {
                colour_stderr(Colour::Green, &format!("{name} runs as revision {to} again"))
            }
            Self::Paused(reason, log) => {
                let text = format!("the rollout of {name} waits: {}", printable(reason));
                let hint = if reason.contains("knit rollout") {
                    String::new()
                } else {
                    format!(
                        "\n`knit rollout resume {name}` goes on, `knit rollout abort {name}` goes back"
                    )
                };
                with_log(&format!("{}{hint}", colour_stderr(Colour::Yellow, &text)), log)
            }
            Self::TimedOut(timeout) => format!(
                "{name} is not there after {:.0} s; the server goes on: see `knit status {name}`",
                timeout.as_secs_f64()
            ),
            Self::Superseded(revision) => {
                format!("{name} was changed again meanwhile: revision {revision} took its place")
            }
            Self::Removed => format!("{name} was removed meanwhile"),
            Self::Interrupted => format!(
                "no longer waiting; the server goes on with {name}: see `knit status {name}`"
            ),
        }
    }
}

fn with_log(text: &str, log: &[String]) -> String {
    if log.is_empty() {
        return text.to_owned();
    }
    format!("{text}\nits last lines:\n{}", log_lines(log).trim_end())
}

/// The sum of the reasons in one line, then one line per node where that says more.
pub(super) fn places_missing(view: &DeploymentView) -> Vec<String> {
    let sentences = |unplaced: &Unplaced| {
        let sum = format!("{}.{} has no node: {}", view.name, unplaced.slot, unplaced.summary);
        let each = unplaced.reasons.iter().filter(|_| unplaced.reasons.len() > 1);
        let each = each.take(REASONS_SHOWN_MAX).map(|reason| format!("  {reason}"));
        std::iter::once(sum).chain(each).collect::<Vec<_>>()
    };
    view.unplaced.iter().flat_map(sentences).collect()
}
