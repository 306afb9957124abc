//! What a node's agent does next, as pure functions.
//!
//! ```text
//! Desired (assignment) ──┐
//!                        ├─> reconcile ─> [Action]        status ─> what the server is told
//! Observed (Docker, …) ──┘       │
//!                      publish: which port leads to which container     nft: the same as rules
//!                      probe: what to ask whom, when     health: what the answers mean
//!                      timer: when something is due without anything happening
//! ```
//!
//! Invariant: nothing here can reach a clock, a socket, a file, the environment or a random
//! number. `now` is an argument.

pub mod action;
pub mod backoff;
pub mod container;
pub mod desired;
pub mod exclusive;
pub mod garbage;
pub mod health;
pub mod last_words;
pub mod memory;
pub mod network;
pub mod nft;
pub mod observed;
pub mod probe;
pub mod publish;
pub mod reconcile;
pub mod secrets;
pub mod status;
pub mod template;
pub mod timer;
pub mod usage;
pub mod volume;

pub use action::Action;
pub use desired::{Desired, Owner, Wanted};
pub use observed::{Container, ContainerState, Observed};
pub use reconcile::reconcile;
