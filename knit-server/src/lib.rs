//! Knit's control plane.
//!
//! ```text
//! http ──> app ──> core (decides) ──> store, feed
//! loops ─> app, core, store, bus          server: puts all of it together
//! ```

pub mod app;
pub mod backup;
pub mod config;
pub mod feed;
pub mod http;
pub mod identity;
pub mod loops;
pub mod manual;
pub mod mesh;
pub mod nats_server;
pub mod oidc;
pub mod server;
pub mod store;
pub mod vault;
