//! Deterministic fuzzing for tests.
//!
//! A plain run takes the corpus and some thousand mutations of it, the same each time. With
//! `KNIT_FUZZ_SECS=N` a run takes so long and begins elsewhere; with `KNIT_FUZZ_KEEP=1` as well, an
//! input with an outcome that no other had joins the corpus.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

mod mutator;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use mutator::Mutator;

const KEPT_MAX_BYTES: usize = 1_024;
const POOL_MAX: usize = 1_024;

/// What is fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Fuzz<'a> {
    /// Directory of inputs to begin with, a file each.
    pub corpus: &'a Path,
    /// What the format knows beside JSON's own words.
    pub words: &'a [&'a str],
    /// Mutations of a plain run.
    pub runs: u32,
    /// Bytes of an input, at most.
    pub input_max: usize,
}

impl Fuzz<'_> {
    /// Feeds `target`. It panics when something is wrong, and else names the outcome: new ones are
    /// worth mutating on.
    pub fn run(&self, mut target: impl FnMut(&[u8]) -> String) {
        let mut pool = self.corpus();
        let corpus = pool.len();
        let mut outcomes = BTreeSet::new();
        for input in &pool {
            outcomes.insert(shown(&mut target, input));
        }
        let long = std::env::var("KNIT_FUZZ_SECS").ok().map(|secs| secs.parse().unwrap());
        let end = long.map(|secs| Instant::now() + Duration::from_secs(secs));
        let seed = long.map_or(1, |_| knit_runtime::clock::now().as_millis());
        let mut mutator = Mutator::new(seed, self.words);
        let mut runs = 0_u64;
        while end.map_or(runs < u64::from(self.runs), |end| Instant::now() < end) {
            // Every other begins with what is known to be good.
            let known = if runs.is_multiple_of(2) { corpus } else { pool.len() };
            let (one, other) = (mutator.below(known), mutator.below(pool.len()));
            let mut input = mutator.mutate(&pool[one], &pool[other]);
            input.truncate(self.input_max);
            runs += 1;
            if outcomes.insert(shown(&mut target, &input)) && pool.len() < POOL_MAX {
                if std::env::var_os("KNIT_FUZZ_KEEP").is_some() && input.len() <= KEPT_MAX_BYTES {
                    fs::write(self.corpus.join(format!("found-{seed}-{runs}")), &input).unwrap();
                }
                pool.push(input);
            }
        }
        if long.is_some() {
            let name = self.corpus.file_name().unwrap().to_string_lossy().into_owned();
            let text = format!("{name}: {runs} runs from seed {seed}, {} outcomes", outcomes.len());
            knit_runtime::terminal::eprintln(&text);
        }
    }

    fn corpus(&self) -> Vec<Vec<u8>> {
        let files = fs::read_dir(self.corpus).unwrap();
        let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }
}

fn shown(target: &mut impl FnMut(&[u8]) -> String, input: &[u8]) -> String {
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
