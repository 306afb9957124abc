//! The thread that starts all children.
//!
//! The kernel sends a parent-death signal when the *thread* that forked exits, not the process.
//! So one thread, which lives as long as the process, forks for everybody.

use std::io;
use std::sync::{OnceLock, mpsc};
use std::thread;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

const JOBS_MAX: usize = 64;

struct Job {
    command: Command,
    death_signal: Signal,
    runtime: Handle,
    done: oneshot::Sender<io::Result<Child>>,
}

/// Starts `command` so that the kernel sends it `death_signal` when this process dies.
pub(crate) async fn spawn(command: Command, death_signal: Signal) -> io::Result<Child> {
    let (done, result) = oneshot::channel();
    let job = Job { command, death_signal, runtime: Handle::current(), done };
    jobs()?.send(job).map_err(|_| gone())?;
    result.await.map_err(|_| gone())?
}

fn gone() -> io::Error {
    io::Error::other("the thread that starts children is gone")
}

fn jobs() -> io::Result<&'static mpsc::SyncSender<Job>> {
    static JOBS: OnceLock<mpsc::SyncSender<Job>> = OnceLock::new();
    if let Some(jobs) = JOBS.get() {
        return Ok(jobs);
    }
    let (sender, receiver) = mpsc::sync_channel(JOBS_MAX);
    thread::Builder::new().name("spawner".to_owned()).spawn(move || run(&receiver))?;
    // Two first callers may race; the thread of the one that loses ends with its channel.
    Ok(JOBS.get_or_init(|| sender))
}

fn run(jobs: &mpsc::Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        let _entered = job.runtime.enter();
        // A caller that gave up drops the child, which kills it.
        let _ = job.done.send(start(job.command, job.death_signal));
    }
}

fn start(mut command: Command, death_signal: Signal) -> io::Result<Child> {
    let parent = getpid();
    #[expect(unsafe_code, reason = "between fork and exec only two system calls are made")]
    // SAFETY: prctl and getppid are async-signal-safe, nothing is allocated, no lock is taken.
    unsafe {
        command.pre_exec(move || die_with(parent, death_signal));
    }
    command.spawn()
}

/// Runs in the child: asks for the signal, then looks whether the parent died before that.
fn die_with(parent: Pid, death_signal: Signal) -> io::Result<()> {
    set_pdeathsig(death_signal)?;
    if getppid() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(3)) }
}
