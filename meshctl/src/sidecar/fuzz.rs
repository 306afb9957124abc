//! Deterministic fuzzers for what strangers can send: the sealed datagram, the message in it, that
//! message to a node that requires certificates, a line on the socket, and one on the probe port.
//!
//! A plain run takes the corpus and some thousand mutations of it, the same each time. With
//! `KNIT_FUZZ_SECS=N` a run takes so long and begins elsewhere; with `KNIT_FUZZ_KEEP=1` as well, an
//! input with an outcome that no other had joins the corpus.

mod announcement;
mod datagram;
mod mutator;
mod probe_line;
mod signed;
mod socket_line;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutator::Mutator;

const INPUT_MAX_BYTES: usize = 4_096;
const KEPT_MAX_BYTES: usize = 1_024;
const POOL_MAX: usize = 1_024;

/// Feeds `target` from the corpus `name`. It panics when something is wrong, and else names the
/// outcome: new ones are worth mutating on.
fn fuzz(name: &str, plain_runs: u32, mut target: impl FnMut(&[u8]) -> String) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut pool: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let mut outcomes = BTreeSet::new();
    for input in &pool {
        outcomes.insert(run(&mut target, input));
    }

    let long = std::env::var("KNIT_FUZZ_SECS").ok().map(|secs| secs.parse().unwrap());
    let end = long.map(|secs| Instant::now() + Duration::from_secs(secs));
    let seed = long.map_or(1, |_| knit_runtime::clock::now().as_millis());
    let mut mutator = Mutator::new(seed);
    let mut runs = 0_u64;
    while end.map_or(runs < u64::from(plain_runs), |end| Instant::now() < end) {
        let (one, other) = (mutator.below(pool.len()), mutator.below(pool.len()));
        let mut input = mutator.mutate(&pool[one], &pool[other]);
        input.truncate(INPUT_MAX_BYTES);
        runs += 1;
        if outcomes.insert(run(&mut target, &input)) && pool.len() < POOL_MAX {
            if std::env::var_os("KNIT_FUZZ_KEEP").is_some() && input.len() <= KEPT_MAX_BYTES {
                fs::write(dir.join(format!("found-{seed}-{runs}")), &input).unwrap();
            }
            pool.push(input);
        }
    }
    if long.is_some() {
        let text = format!("{name}: {runs} runs from seed {seed}, {} outcomes", outcomes.len());
        knit_runtime::terminal::eprintln(&text);
    }
}

fn run(target: &mut impl FnMut(&[u8]) -> String, input: &[u8]) -> String {
    let _shown = ShownOnPanic(input);
    target(input)
}

struct ShownOnPanic<'a>(&'a [u8]);

impl Drop for ShownOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = format!("the input was {:?}", String::from_utf8_lossy(self.0));
            knit_runtime::terminal::eprintln(&text);
        }
    }
}
