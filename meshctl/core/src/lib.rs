//! The WireGuard mesh protocol, as pure functions.
//!
//! ```text
//!  secret ──derive──> keys, addresses, ports
//!  datagram ──envelope::open──> message ──mesh::Mesh::handle──> effects ──envelope::seal──> datagram
//!                                             └ peer_table, replay, contacts
//! ```
//!
//! Invariant: nothing here reads a clock, a socket, a file, the environment or randomness. `now`,
//! nonces and private keys are arguments.

pub mod authority;
pub mod derive;
pub mod envelope;
pub mod key;
pub mod mesh;
pub mod message;
pub mod offload;
pub mod secret;
pub mod secret_store;
pub mod signature;
pub mod state_file;
pub mod stun;
