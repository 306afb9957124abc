//! What has happened since the start, counted for the metrics.

use std::collections::BTreeMap;

/// Counts since the daemon's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that were taken in.
    pub taken: u64,
    /// Datagrams that were not, by reason: `rate` (its source sends too many), `foreign` (it does not
    /// open with this mesh's key), `clock`, `replayed`, `malformed`, `relabelled`.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Peers that were found, by the layer that found them.
    pub found: BTreeMap<&'static str, u64>,
    /// Tries to meet a peer through two NATs at a moment that an introducer named, and those that led
    /// to a handshake.
    pub punches: u64,
    pub punched: u64,
    /// Times that another node claimed our mesh address.
    pub clashes: u64,
    /// Times that our mesh address moved.
    pub moves: u64,
}

impl Counters {
    pub(super) fn drop_for(&mut self, reason: &'static str) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    pub(super) fn found_by(&mut self, layer: &'static str) {
        *self.found.entry(layer).or_default() += 1;
    }
}
