//! The agent as a whole: in process with fakes, and with a real Docker, real nftables and a real
//! socket in namespaces of their own (these need root).

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

mod cluster;
mod docker;
mod firewall;
mod garbage;
mod lifecycle;
mod mesh;
mod registry;
mod support;
