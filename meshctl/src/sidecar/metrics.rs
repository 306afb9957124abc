//! `--metrics`: what Prometheus scrapes, with the Go daemon's names and ours.
//!
//! ```text
//!   http (loopback or mesh, bounded) ── Query::Metrics ──> actor ── text::render ──> the page
//! ```
//!
//! Invariant: nobody outside this host and its mesh is answered: there is no password.

mod address;
mod histogram;
pub(super) mod http;
mod text;

use std::collections::BTreeMap;
use std::time::Duration;

use knit_rpc::jsonrpc::MeshStatus;
use meshctl_core::key::PublicKey;
use meshctl_core::mesh::{Mesh, Now};

pub(crate) use address::MetricsAddress;
use histogram::Histogram;

/// What the actor measures itself.
#[derive(Default)]
pub(super) struct Measured {
    reconciles: Histogram,
    round_trips: BTreeMap<PublicKey, Histogram>,
}

impl Measured {
    pub(super) fn reconciled(&mut self, took: Duration) {
        self.reconciles.observe(took.as_secs_f64());
    }

    pub(super) fn round_trip(&mut self, key: PublicKey, micros: u64) {
        let secs = Duration::from_micros(micros).as_secs_f64();
        self.round_trips.entry(key).or_default().observe(secs);
    }

    /// The page, without those that are not peers any more.
    pub(super) fn render(&mut self, mesh: &Mesh, status: &MeshStatus, now: Now) -> String {
        self.round_trips.retain(|key, _| mesh.peer(key).is_some());
        text::render(self, mesh, status, now)
    }
}
