//! On several hosts.

mod deploy;
mod dev;
mod exposure;
mod faults;
