//! What each of Knit's programs does at its edges.
//!
//! Logs, signals, the service manager, child processes, other hosts by ssh, files, configuration,
//! the clock and the terminal, completions and man pages. Nothing here knows a deployment, a node or
//! a mesh.

pub mod child;
pub mod clock;
pub mod config;
pub mod error;
pub mod file;
pub mod log;
pub mod manual;
pub mod notify;
pub mod signal;
pub mod ssh;
pub mod terminal;
pub mod version;
