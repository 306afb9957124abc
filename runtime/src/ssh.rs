//! Another host, by the system's own `ssh`: the user's configuration, agent, keys and known hosts
//! are used, and what ssh says or asks is said and asked by ssh itself.
//!
//! ```text
//! Tunnel   ssh -N -L DIR/socket:REMOTE_SOCKET   one connection, any number of streams
//! Master   ssh -N -M -S DIR/control             one connection, any number of commands
//! ```
//!
//! Invariant: what a user wrote as a host never becomes an option of ssh, and no ssh that was
//! started here outlives this process.

mod target;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::mkdtemp;
use tokio::process::{Child, Command};

use crate::child::{describe_exit, spawner};
pub use target::{NoTarget, Target};

/// Names another program than `ssh`, which takes its arguments.
pub const PROGRAM_VARIABLE: &str = "KNIT_SSH";
/// How often it is looked whether the connection is there.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const DIRECTORY_PREFIX: &str = "knit-ssh-";

/// Why there is no connection. What ssh itself has to say is on stderr already.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// No place for its socket.
    #[error("no directory could be made in {}", path.display())]
    Directory {
        /// Where it was to be.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The program could not be started.
    #[error("{program} cannot be started (Debian's package openssh-client has it)")]
    Start {
        /// The program.
        program: String,
        /// The system's words.
        source: io::Error,
    },
    /// It ended before there was a connection.
    #[error("no connection to {target}: ssh ended with {}", describe_exit(*status))]
    Ended {
        /// Whom it was to reach.
        target: String,
        /// How it ended.
        status: ExitStatus,
    },
}

/// A Unix socket of another host, as a Unix socket of this one.
#[derive(Debug)]
pub struct Tunnel {
    connection: Connection,
}

impl Tunnel {
    /// Connects; returns once the other host has let us in.
    pub async fn open(target: &Target, remote_socket: &Path) -> Result<Self, SshError> {
        let add = |command: &mut Command, socket: &Path| {
            // A connection of its own, so that the socket ends with it.
            command.args(["-o", "ControlMaster=no", "-o", "ControlPath=none"]);
            command.arg("-L").arg(format!("{}:{}", socket.display(), remote_socket.display()));
        };
        let connection = Connection::open(target, add, is_listened_on);
        Ok(Self { connection: connection.await? })
    }

    /// The near end.
    pub fn socket(&self) -> &Path {
        &self.connection.socket
    }
}

/// A connection that runs commands: the other host is asked to let us in only once.
#[derive(Debug)]
pub struct Master {
    target: Target,
    connection: Connection,
}

impl Master {
    /// Connects; returns once the other host has let us in.
    pub async fn open(target: &Target) -> Result<Self, SshError> {
        let add = |command: &mut Command, socket: &Path| {
            command.args(["-o", "ControlMaster=yes", "-o", "ControlPersist=no", "-S"]).arg(socket);
        };
        // ssh puts that one in its place when it takes connections already.
        let connection = Connection::open(target, add, Path::exists);
        Ok(Self { target: target.clone(), connection: connection.await? })
    }

    /// A command for the other host's shell. It has no terminal.
    pub fn command(&self, remote: &str) -> Command {
        let mut command = Command::new(program());
        command.args(["-T", "-o", "ControlMaster=no", "-S"]).arg(&self.connection.socket);
        // When the master is gone ssh would connect anew: to the usual port, maybe another machine.
        command.args(["-o", "ProxyCommand=false"]);
        command.arg("--").arg(self.target.destination()).arg(remote).kill_on_drop(true);
        command
    }
}

/// An ssh that runs no command, and the directory of its socket.
#[derive(Debug)]
struct Connection {
    socket: PathBuf,
    _ssh: Child,
    _directory: Directory,
}

impl Connection {
    async fn open(
        target: &Target,
        add: impl FnOnce(&mut Command, &Path),
        is_ready: impl Fn(&Path) -> bool,
    ) -> Result<Self, SshError> {
        let directory = Directory::make()?;
        let socket = directory.0.join("s");
        let mut command = Command::new(program());
        command.args(["-N", "-T", "-a", "-x"]);
        // A host that is gone is noticed within a minute.
        command.args(["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"]);
        add(&mut command, &socket);
        if let Some(port) = target.port() {
            command.arg("-p").arg(port.to_string());
        }
        command.arg("--").arg(target.destination());
        // Passwords are asked on the terminal; our standard input is somebody else's.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        command.kill_on_drop(true);
        let started = spawner::spawn(command, Signal::SIGTERM).await;
        let mut ssh = started.map_err(|source| SshError::Start { program: program(), source })?;
        // Its socket is there once we are let in; how long that takes is up to who types.
        while !is_ready(&socket) {
            tokio::select! {
                status = ssh.wait() => {
                    let (target, status) = (target.to_string(), status.unwrap_or_default());
                    return Err(SshError::Ended { target, status });
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        Ok(Self { socket, _ssh: ssh, _directory: directory })
    }
}

/// Whether a socket takes connections: its file is there a moment before it does. To connect would
/// open a stream to the other host.
fn is_listened_on(socket: &Path) -> bool {
    /// In hexadecimal, the flag of a socket that listens.
    const LISTENS: &str = "00010000";
    let Ok(sockets) = std::fs::read_to_string("/proc/net/unix") else { return socket.exists() };
    sockets.lines().any(|line| {
        let path = line.find('/').map(|at| Path::new(&line[at..]));
        line.split_whitespace().nth(3) == Some(LISTENS) && path == Some(socket)
    })
}

fn program() -> String {
    let named = std::env::var(PROGRAM_VARIABLE).ok().filter(|program| !program.is_empty());
    named.unwrap_or_else(|| "ssh".to_owned())
}

/// A directory that only we can enter, removed in the end.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn make() -> Result<Self, SshError> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let place = runtime.filter(|dir| dir.is_dir()).unwrap_or_else(std::env::temp_dir);
        sweep(&place);
        let template = place.join(format!("{DIRECTORY_PREFIX}{}-XXXXXX", std::process::id()));
        let made = mkdtemp(&template).map_err(io::Error::from);
        made.map(Self).map_err(|source| SshError::Directory { path: place, source })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What stays is swept by the next one.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes what processes left that were killed; others' directories cannot be removed.
fn sweep(place: &Path) {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(DIRECTORY_PREFIX).and_then(|rest| rest.split_once('-'));
        let is_dead = pid.is_some_and(|(pid, _)| {
            pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()
        });
        if is_dead && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_ready_once_it_is_listened_on() {
        use std::os::fd::AsRawFd as _;

        use nix::sys::socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
        };

        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let flags = SockFlag::SOCK_CLOEXEC;
        let bound = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        assert!(!is_listened_on(&path));
        bind(bound.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        assert!(path.exists() && !is_listened_on(&path));
        listen(&bound, Backlog::new(1).unwrap()).unwrap();
        assert!(is_listened_on(&path));
    }

    #[test]
    fn what_a_killed_process_left_is_swept_and_the_livings_is_not() {
        let place = tempfile::tempdir().unwrap();
        let ours = place.path().join(format!("{DIRECTORY_PREFIX}{}-abc", std::process::id()));
        // No process has this pid: the kernel's are below 2^22.
        let dead = place.path().join(format!("{DIRECTORY_PREFIX}4999999-abc"));
        let strange = place.path().join(format!("{DIRECTORY_PREFIX}x-abc"));
        for directory in [&ours, &dead, &strange] {
            std::fs::create_dir(directory).unwrap();
        }
        sweep(place.path());
        assert!(ours.exists() && strange.exists() && !dead.exists());
    }
}
