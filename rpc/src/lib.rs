//! What crosses a process boundary in Knit: types and their parsing, no I/O.
//!
//! ```text
//! spec      what users write (YAML, JSON, TOML), every problem at once with its line
//! api       REST bodies        access    who may use the API: roles, tokens
//! message   NATS bodies          subject   NATS subjects
//! audit     who did what, as a chain
//! join      what lets a new host in
//! jsonrpc   the mesh sidecar's socket
//! id        names and ids as parsed newtypes
//! sealed_box what one node alone can read
//! signed    bodies that carry a signature
//! ```
//!
//! Invariant: what users write is strict, what programs send ignores unknown keys, so that a
//! server of version N works with agents of version N−1.

pub mod access;
pub mod api;
pub mod audit;
pub mod constraint;
pub mod event;
pub mod id;
pub mod join;
pub mod jsonrpc;
pub mod message;
pub mod sealed_box;
pub mod signed;
pub mod spec;
pub mod subject;
mod time;

pub use time::Timestamp;
