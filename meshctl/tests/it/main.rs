//! The real binary between real network namespaces, and in a real kernel.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod clash;
mod client;
mod commands;
mod doctor;
mod go_daemon;
mod guest;
mod ipv6;
mod lifetime;
mod meshing;
mod metrics;
mod nat;
mod rotation;
mod routes;
mod signed;
mod socket;
mod support;
mod transfer;
