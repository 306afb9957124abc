//! On several hosts.

mod add;
mod alone;
mod deploy;
mod dev;
mod disaster;
mod drain;
mod exposure;
mod faults;
mod full;
mod health;
mod lifecycle;
mod loss;
mod packages;
mod rollout;
mod secrets;
mod soak;
mod ssh;
mod volumes;
