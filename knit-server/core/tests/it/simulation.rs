//! The server core and the agent core together, in a world of chance that comes from a seed.
//!
//! ```text
//!  Server (knit-server-core) <── Wire: late, twice, out of order, lost ──> Host (knit-agent-core)
//!      │ store: what a restart keeps                                         │ Engine, rules, disk
//!      └───────────────────────── World: one tick is 250 ms ─────────────────┘
//!               People want things, Faults happen, the Reference model watches
//! ```
//!
//! Without more 200 stories are lived whose seeds come from the two cores' sources: fresh with every
//! change of what is watched, and the same wherever that is tested. `KNIT_SEED=7` lives one story
//! again; `KNIT_TEST_FULL=1` lives 10 000 by chance.

mod engine;
mod faults;
mod host;
mod image;
mod people;
mod prediction;
mod reference;
mod rng;
mod server;
mod story;
mod wire;
mod world;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn whatever_happens_what_is_wanted_comes_to_run_and_nothing_is_broken_on_the_way() {
    if let Some(seed) = setting("KNIT_SEED") {
        return story::live(seed).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
    let is_full = setting("KNIT_TEST_FULL").is_some();
    let count = setting("KNIT_SEEDS").unwrap_or(if is_full { 10_000 } else { 200 });
    let first = if is_full { RandomState::new().build_hasher().finish() } else { of_sources() };
    let first = first % 1_000_000_000;
    let next = AtomicU64::new(first);
    let wrongs = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || wrongs.lock().unwrap().len() > 3 {
                        return;
                    }
                    if let Err(wrong) = story::live(seed) {
                        wrongs.lock().unwrap().push(wrong);
                    }
                }
            });
        }
    });
    let wrongs = wrongs.into_inner().unwrap();
    assert!(wrongs.is_empty(), "{}", wrongs.join("\n\n"));
}

/// A number that changes with the sources of the two cores.
#[expect(clippy::disallowed_methods, reason = "it is the sources that are read")]
fn of_sources() -> u64 {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for core in ["src", "../../knit-agent/core/src"] {
        collect(&here.join(core), &mut files);
    }
    files.sort();
    assert!(files.len() > 20, "{} files of sources", files.len());
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        for byte in std::fs::read(file).expect("a source") {
            // FNV-1a.
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("sources") {
        let path = entry.expect("a source").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "which seed is to be lived again is told from outside"
)]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
