//! The server as a whole: in one process on a bus in memory, and as the real program on a real
//! nats-server.

mod access;
mod adoption;
mod audit;
mod bounds;
mod cut_off;
mod external_nats;
mod fuzz;
mod http;
mod joining;
mod lifecycle;
mod liveness;
mod nats_tls;
mod nodes;
mod oidc;
mod program;
mod projects;
mod registries;
mod rollouts;
mod schema;
mod secrets;
mod sessions;
mod store;
mod strangers;
mod support;
mod vault;
