//! How Knit's messages travel: the NATS bus, the mesh sidecar's socket, the HTTP client.
//!
//! This crate owns async-nats, jsonrpsee and reqwest; nothing else in the workspace names them.

pub mod bus;
pub mod http;
pub mod mesh;
#[cfg(feature = "web")]
pub mod registry;
#[cfg(feature = "web")]
pub mod web;
