//! What a dev cluster tells while it works: one line a step, with the time since its start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use knit_runtime::terminal::{Colour, colour_stderr, eprintln};

/// How many of a dead child's last lines are shown.
const LAST_LINES_SHOWN: usize = 12;

/// Prints steps to stderr.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    start: Arc<Instant>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { start: Arc::new(Instant::now()) }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Something was done.
    pub(crate) fn step(&self, text: &str) {
        let time = format!("{:6.1}s", self.elapsed().as_secs_f64());
        eprintln(&format!("{}  {text}", colour_stderr(Colour::Dim, &time)));
    }

    /// Something went wrong; what the culprit said last comes along.
    pub(crate) fn alarm(&self, text: &str, last_lines: &[String]) {
        self.step(&colour_stderr(Colour::Red, text));
        let skipped = last_lines.len().saturating_sub(LAST_LINES_SHOWN);
        for line in &last_lines[skipped..] {
            eprintln(&format!("         | {}", knit_runtime::terminal::printable(line)));
        }
    }
}
