//! What the agent remembers of images: `STATE_DIR/images.json`.
//!
//! Losing the file loses no image: what nobody remembers pulling is never collected.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use knit_agent_core::garbage::{Image, Remembered};

const FILE: &str = "images.json";
/// When an image was used last need not be known better than this after a restart.
const SAVE_EVERY: Duration = Duration::from_mins(10);

/// Clones share what is remembered.
#[derive(Debug, Clone)]
pub struct Images {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    remembered: Remembered,
    using: BTreeSet<String>,
    saved_at: Option<Instant>,
    /// Pulls since the agent started.
    pulls: u64,
}

impl Images {
    /// Reads the file; one that cannot be read is as good as none.
    pub fn load(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let remembered = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, "what was remembered of images cannot be read");
                Remembered::default()
            }),
            Err(_) => Remembered::default(),
        };
        let state = State { remembered, ..State::default() };
        Self { path, state: Arc::new(Mutex::new(state)) }
    }

    /// Notes that an image was not here and was pulled.
    pub fn pulled(&self, name: &str, id: String) {
        let mut state = self.lock();
        state.remembered.pulled(name, id, knit_runtime::clock::now());
        state.pulls += 1;
        self.save(&mut state);
    }

    /// How many were pulled since the agent started: when it grows, another image is here.
    pub fn pulls(&self) -> u64 {
        self.lock().pulls
    }

    /// Notes what instances use now, and what is here at all.
    pub fn used(&self, names: BTreeSet<String>, here: &[Image]) {
        let mut state = self.lock();
        state.remembered.used(&names, knit_runtime::clock::now());
        state.remembered.keep(here);
        let is_due = state.saved_at.is_none_or(|at| at.elapsed() >= SAVE_EVERY);
        if is_due || state.using != names {
            state.using = names;
            self.save(&mut state);
        }
    }

    pub fn remembered(&self) -> Remembered {
        self.lock().remembered.clone()
    }

    fn save(&self, state: &mut State) {
        state.saved_at = Some(Instant::now());
        let bytes = serde_json::to_vec(&state.remembered).unwrap_or_default();
        if let Err(error) = knit_runtime::file::write_atomic(&self.path, &bytes, 0o600) {
            tracing::warn!(%error, "what is remembered of images cannot be kept");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
