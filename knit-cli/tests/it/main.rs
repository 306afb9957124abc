//! Knit as its users run it: the built programs on real hosts, each a network namespace with its
//! own Docker, sidecar and agent, made by `knit dev`.
//!
//! Needs root, and the other programs beside `knit` (`cargo build --workspace --bins`).

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

mod api;
mod cli;
mod docs;
mod hosts;
mod manual;
mod nixos;
mod support;
mod units;
