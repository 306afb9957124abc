//! Measuring throughput: what both ends of `meshctl bench` share.
//!
//! ```text
//!   asker ── probe port, through the tunnel ──> "bench down 3"         ──> "bench go", bytes
//!   asker ── probe port, through the tunnel ──> "bench beside down 3"  ──> "bench at PORT TOKEN"
//!         └─ TCP to the peer's underlay address: TOKEN ────────────────────> "bench go", bytes
//! ```
//!
//! A Go daemon, and one of ours before this word, ignores it as it ignores any but `ping`.

pub(crate) mod stream;
pub(crate) mod wire;
