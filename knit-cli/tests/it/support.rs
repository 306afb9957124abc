//! Dev clusters for tests, commands on their hosts, and waiting.

mod cluster;

use std::process::Output;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use cluster::Cluster;

/// The image that tests deploy: busybox, imported on every host.
pub(crate) const IMAGE: &str = "knit-test:1";
/// How long a state may take on a slow and busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// Hosts of the shared cluster.
const NODES: u8 = 3;

/// The cluster that tests share, whole and empty; one test has it at a time.
pub(crate) fn hosts() -> MutexGuard<'static, Cluster> {
    static SHARED: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let cluster = Cluster::start(&format!("t{}", std::process::id()), NODES);
        cluster.load_image();
        Mutex::new(cluster)
    });
    // A test that failed may have left anything: the next one puts it in order first.
    let cluster = shared.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.put_in_order();
    cluster
}

/// Waits until `look` succeeds; a failure says what was waited for and what was seen last.
#[track_caller]
pub(crate) fn wait_until<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    wait_within(PATIENCE, what, look)
}

/// As [`wait_until`], with a time.
#[track_caller]
pub(crate) fn wait_within<T>(
    time: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + time;
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) if Instant::now() > deadline => {
                panic!("waited {time:?} for {what}; seen last: {seen}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// What a command wrote to stdout.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// What a command wrote to stderr.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}
