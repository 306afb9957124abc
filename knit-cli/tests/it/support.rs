//! Dev clusters for tests, commands on their hosts, and waiting.

mod api;
mod cluster;
pub(crate) mod debian;
mod image;
mod laptop;
mod load;
mod sshd;
mod wire;

use std::process::Output;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use api::host_of;
pub(crate) use cluster::Cluster;
pub(crate) use image::image_tar;
pub(crate) use laptop::Laptop;
pub(crate) use load::Load;
pub(crate) use sshd::{Sshd, processes_with, ssh_client};
pub(crate) use wire::{BadWires, Badness, Cut};

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

/// Whether the long variants are asked for.
pub(crate) fn is_full() -> bool {
    std::env::var_os("KNIT_TEST_FULL").is_some()
}

/// A small generator (splitmix64), so that a failure can be run again by its seed.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }
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
