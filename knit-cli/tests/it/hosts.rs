//! On several hosts.

mod alone;
mod deploy;
mod dev;
mod exposure;
mod faults;
mod soak;
