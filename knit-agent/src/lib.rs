//! Knit's node agent: runs containers on one host of the mesh.
//!
//! ```text
//!  mesh (join, follow) ──> session (register, NATS) ──> loops/{assignments, heartbeat, reports}
//!                                                            │ assignment      ▲ inventory
//!                                                            ▼                 │
//!            Docker <── engine <── executor <── loops/reconcile ───────────────┘
//!          nftables <── firewall <──────────────────┘
//! ```
//!
//! What to do is decided in `knit-agent-core`; here it is done.

pub mod agent;
pub mod cleanup;
pub mod config;
pub mod engine;
pub mod executor;
pub mod files;
pub mod firewall;
pub mod host;
pub mod identity;
pub mod images;
pub mod join_token;
pub mod last_assignment;
pub mod loops;
pub mod manual;
pub mod mesh;
pub mod registration;
pub mod registry;
pub mod session;
pub mod shared;
