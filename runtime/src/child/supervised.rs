//! A child that is started again when it dies.
//!
//! ```text
//! Starting -> Running -> (died) -> BackingOff -> Starting …, until told to stop -> Stopped
//! ```
//!
//! Invariant: at most one process of a supervised child exists at a time.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Child, ChildSpec, describe_exit};

/// When a dead child is started again, and how a living one is stopped.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The pause after the first death.
    pub backoff_min: Duration,
    /// The longest pause; each death in a row doubles it.
    pub backoff_max: Duration,
    /// A child that lived this long is healthy: the next death is a first one again.
    pub healthy_after: Duration,
    /// How long it may take to end when asked.
    pub stop_grace: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
            healthy_after: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
        }
    }
}

/// How a supervised child is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SupervisedState {
    /// About to be started.
    Starting,
    /// Alive.
    Running {
        /// Its process id.
        pid: u32,
    },
    /// Dead; will be started again.
    BackingOff {
        /// How long the pause is.
        pause: Duration,
        /// How it died, or why it could not be started.
        why: String,
        /// The last that it said.
        last_lines: Vec<String>,
    },
    /// Stopped for good.
    Stopped,
}

/// Keeps one child running until cancelled.
#[derive(Debug)]
pub struct Supervised {
    state: watch::Receiver<SupervisedState>,
    specs: mpsc::Sender<ChildSpec>,
    task: JoinHandle<()>,
}

impl Supervised {
    /// Starts `spec` and keeps it running until `cancel`. Must be called inside a tokio runtime.
    pub fn start(spec: ChildSpec, policy: Policy, cancel: CancellationToken) -> Self {
        let (state_tx, state) = watch::channel(SupervisedState::Starting);
        let (specs, specs_rx) = mpsc::channel(1);
        let run = Run { spec, policy, cancel, state: state_tx, specs: specs_rx };
        Self { state, specs, task: tokio::spawn(run.run()) }
    }

    /// How the child is; the receiver wakes at each change.
    pub fn state(&self) -> watch::Receiver<SupervisedState> {
        self.state.clone()
    }

    /// Stops the child and starts `spec` in its place, without a pause.
    pub async fn replace(&self, spec: ChildSpec) {
        let _ = self.specs.send(spec).await;
    }

    /// Waits until the child is stopped, after the token was cancelled.
    pub async fn stopped(self) {
        let _ = self.task.await;
    }
}

struct Run {
    spec: ChildSpec,
    policy: Policy,
    cancel: CancellationToken,
    state: watch::Sender<SupervisedState>,
    specs: mpsc::Receiver<ChildSpec>,
}

/// Why one life of the child ended.
enum Ended {
    Cancelled,
    Replaced,
    Died { why: String, last_lines: Vec<String> },
}

impl Run {
    async fn run(mut self) {
        let mut pause = self.policy.backoff_min;
        loop {
            self.state.send_replace(SupervisedState::Starting);
            let started = Instant::now();
            match self.one_life().await {
                Ended::Cancelled => break,
                Ended::Replaced => pause = self.policy.backoff_min,
                Ended::Died { why, last_lines } => {
                    if started.elapsed() >= self.policy.healthy_after {
                        pause = self.policy.backoff_min;
                    }
                    self.back_off(pause, why, last_lines).await;
                    if self.cancel.is_cancelled() {
                        break;
                    }
                    pause = (pause * 2).min(self.policy.backoff_max);
                }
            }
        }
        self.state.send_replace(SupervisedState::Stopped);
    }

    async fn one_life(&mut self) -> Ended {
        if self.cancel.is_cancelled() {
            return Ended::Cancelled;
        }
        let child = match Child::spawn(self.spec.clone()).await {
            Ok(child) => child,
            Err(error) => return Ended::Died { why: chain(&error), last_lines: Vec::new() },
        };
        self.state.send_replace(SupervisedState::Running { pid: child.pid() });
        tokio::select! {
            status = child.wait() => {
                Ended::Died { why: describe_exit(status), last_lines: child.last_lines() }
            }
            () = self.cancel.cancelled() => {
                child.stop(self.policy.stop_grace).await;
                Ended::Cancelled
            }
            Some(spec) = self.specs.recv() => {
                child.stop(self.policy.stop_grace).await;
                self.spec = spec;
                Ended::Replaced
            }
        }
    }

    async fn back_off(&mut self, pause: Duration, why: String, last_lines: Vec<String>) {
        let last = last_lines.iter().rev().take(5).rev().cloned().collect::<Vec<_>>().join(" | ");
        tracing::warn!(child = self.spec.name, why, last, "died: starting it again in {pause:?}");
        self.state.send_replace(SupervisedState::BackingOff { pause, why, last_lines });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.cancel.cancelled() => {}
            Some(spec) = self.specs.recv() => self.spec = spec,
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
