//! Who speaks under a node id.

use knit_rpc::Timestamp;

use super::DUPLICATE_FOR;

/// Changes of life that are remembered per node.
const LIVES_KEPT_MAX: usize = 4;

/// One run of one agent on one boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    pub boot: String,
    pub agent_start: Timestamp,
}

/// The lives that spoke under one node id: an agent that restarts changes it once, two hosts that
/// claim one id change it back and forth.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lives {
    recent: Vec<Life>,
    alternated_at: Option<Timestamp>,
}

impl Lives {
    /// Takes note of who spoke; returns whether the host was booted anew since it spoke before.
    pub fn note(&mut self, life: Life, now: Timestamp) -> bool {
        if self.recent.last() == Some(&life) {
            return false;
        }
        let rebooted =
            !self.recent.is_empty() && self.recent.iter().all(|known| known.boot != life.boot);
        if self.recent.contains(&life) {
            self.alternated_at = Some(now);
        }
        self.recent.retain(|known| *known != life);
        self.recent.push(life);
        if self.recent.len() > LIVES_KEPT_MAX {
            self.recent.remove(0);
        }
        rebooted
    }

    /// Who spoke last.
    pub fn newest(&self) -> Option<&Life> {
        self.recent.last()
    }

    pub(super) fn alternates(&self, now: Timestamp) -> bool {
        self.alternated_at.is_some_and(|at| now.since(at) < DUPLICATE_FOR)
    }
}
