//! Child processes that cannot outlive us unnoticed.
//!
//! ```text
//! ChildSpec -> spawner thread -> owner task (waits, signals) -> exit status
//!                    └ stdout, stderr -> lines (last 50 kept, log file, tracing)
//! ```
//!
//! Invariant: only the task that reaps a child signals it, so a signal never meets a stranger
//! that got the child's pid.

mod lines;
pub(crate) mod spawner;
mod supervised;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child as Process, Command};
use tokio::sync::{mpsc, watch};

use lines::Lines;
pub use supervised::{Policy, Supervised, SupervisedState};

/// How many of a child's last lines are kept.
pub const LAST_LINES_MAX: usize = 50;
/// How long after a child's exit its pipes are still read; a grandchild may hold them open.
const DRAIN_MS: u64 = 300;
const COMMANDS_MAX: usize = 16;

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct ChildSpec {
    /// What the child is called in logs and errors.
    pub name: String,
    /// The program: a path, or a name to be found in PATH.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables set on top of our own environment.
    pub env: Vec<(String, String)>,
    /// Variables taken away from it.
    pub env_remove: Vec<String>,
    /// Where it runs.
    pub cwd: Option<PathBuf>,
    /// A network namespace (`/run/netns/NAME`) that it is started in, by `nsenter`.
    pub netns: Option<PathBuf>,
    /// Whether it leads a process group of its own, so that a Ctrl-C in our terminal reaches only
    /// us and the order of stopping is ours.
    pub own_group: bool,
    /// The signal it gets from the kernel when we die.
    pub death_signal: Signal,
    /// A file to which its lines are appended, instead of to our own log.
    pub log_file: Option<PathBuf>,
}

impl ChildSpec {
    /// A child called `name` that runs `program`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            env_remove: Vec::new(),
            cwd: None,
            netns: None,
            own_group: false,
            death_signal: Signal::SIGKILL,
            log_file: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Starts it in the network namespace at `path`.
    #[must_use]
    pub fn netns(mut self, path: impl Into<PathBuf>) -> Self {
        self.netns = Some(path.into());
        self
    }

    /// Gives it a process group of its own.
    #[must_use]
    pub fn own_group(mut self) -> Self {
        self.own_group = true;
        self
    }

    /// Appends its lines to the file at `path`.
    #[must_use]
    pub fn log_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.log_file = Some(path.into());
        self
    }

    /// The signal it gets when we die.
    #[must_use]
    pub fn death_signal(mut self, signal: Signal) -> Self {
        self.death_signal = signal;
        self
    }

    fn command(&self) -> Command {
        let mut command = match &self.netns {
            None => Command::new(&self.program),
            Some(netns) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", netns.display())).arg("--").arg(&self.program);
                command
            }
        };
        command.args(&self.args).envs(self.env.iter().map(|(key, value)| (key, value)));
        for key in &self.env_remove {
            command.env_remove(key);
        }
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        if self.own_group {
            command.process_group(0);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The program could not be executed.
    #[error("cannot start {name} ({})", program.display())]
    Spawn {
        /// What the child is called.
        name: String,
        /// The program.
        program: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Its log file could not be opened.
    #[error("cannot open the log file {}", path.display())]
    LogFile {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

/// A running, or a dead, child. Dropping it kills the child.
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: u32,
    lines: Lines,
    exit: watch::Receiver<Option<ExitStatus>>,
    commands: mpsc::Sender<Signal>,
}

impl Child {
    /// Starts a child. Must be called inside a tokio runtime.
    pub async fn spawn(spec: ChildSpec) -> Result<Self, ChildError> {
        let lines = Lines::new(&spec.name, spec.log_file.as_deref())
            .map_err(|source| log_file_error(spec.log_file.as_deref(), source))?;
        let mut process =
            spawner::spawn(spec.command(), spec.death_signal).await.map_err(|source| {
                ChildError::Spawn { name: spec.name.clone(), program: spec.program.clone(), source }
            })?;
        let pid = process.id().unwrap_or_default();
        let readers = lines.read(process.stdout.take(), process.stderr.take());
        let (exit_tx, exit) = watch::channel(None);
        let (commands, commands_rx) = mpsc::channel(COMMANDS_MAX);
        tokio::spawn(async move {
            let status = own(process, commands_rx).await;
            let _ = tokio::time::timeout(Duration::from_millis(DRAIN_MS), readers).await;
            exit_tx.send_replace(Some(status));
        });
        Ok(Self { name: spec.name, pid, lines, exit, commands })
    }

    /// What the child is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id; still the old one after its death.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits until it has ended and its last lines are read.
    pub async fn wait(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_default(),
            // The owner task is gone only when the runtime is: then the child was killed.
            Err(_) => ExitStatus::from_raw(Signal::SIGKILL as i32),
        }
    }

    /// Sends it a signal; does nothing when it is dead.
    pub async fn signal(&self, signal: Signal) {
        let _ = self.commands.send(signal).await;
    }

    /// Asks it to end (SIGTERM), and makes it end (SIGKILL) after `grace`.
    pub async fn stop(&self, grace: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM).await;
        if let Ok(status) = tokio::time::timeout(grace, self.wait()).await {
            return status;
        }
        tracing::warn!(child = self.name, "still there after {grace:?}: killing it");
        self.signal(Signal::SIGKILL).await;
        self.wait().await
    }

    /// Its last lines, oldest first.
    pub fn last_lines(&self) -> Vec<String> {
        self.lines.last()
    }
}

/// Says how a process ended: `exit code 1`, `killed by SIGKILL`.
pub fn describe_exit(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => {
            let name = Signal::try_from(number).map_or("an unknown signal", Signal::as_str);
            format!("killed by {name}")
        }
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// Waits for the process and passes signals on, until it is reaped.
async fn own(mut process: Process, mut commands: mpsc::Receiver<Signal>) -> ExitStatus {
    loop {
        tokio::select! {
            status = process.wait() => return status.unwrap_or_default(),
            command = commands.recv() => {
                // Nobody holds the child any more.
                let abandoned = command.is_none();
                send(&process, command.unwrap_or(Signal::SIGKILL));
                if abandoned {
                    return process.wait().await.unwrap_or_default();
                }
            }
        }
    }
}

fn send(process: &Process, signal: Signal) {
    // A reaped process has no id, so nobody else is ever meant here.
    let Some(pid) = process.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw) else {
        return;
    };
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::warn!(%pid, %signal, %error, "cannot signal a child"),
    }
}

fn log_file_error(path: Option<&Path>, source: std::io::Error) -> ChildError {
    ChildError::LogFile { path: path.unwrap_or(Path::new("")).to_owned(), source }
}

#[cfg(test)]
mod tests;
