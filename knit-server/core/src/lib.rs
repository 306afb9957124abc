//! What the server decides, as pure functions.
//!
//! ```text
//! Snapshot ─> liveness ─> eligibility ─> placement ─> assignment ─> Plan
//!                                                 status ─> what the API shows
//! ```
//!
//! Invariant: nothing here reads a clock, a socket, a file, the environment or a random number;
//! `now` and ids are arguments. Equal arguments give equal results.

pub mod access;
pub mod admission;
pub mod adoption;
pub mod assignment;
pub mod browser;
pub mod eligibility;
pub mod explain;
pub mod instances;
pub mod ledger;
pub mod liveness;
pub mod networks;
pub mod observed;
pub mod oidc;
pub mod placement;
pub mod plan;
pub mod preview;
pub mod projects;
pub mod revise;
pub mod revocation;
pub mod rollout;
pub mod secrets;
pub mod snapshot;
pub mod status;
pub mod subnets;
#[cfg(test)]
mod testing;
pub mod validate;
pub mod volumes;

pub use observed::Observed;
pub use plan::{Dirty, Plan, plan};
pub use snapshot::{Deployment, Instance, Node, Snapshot};
