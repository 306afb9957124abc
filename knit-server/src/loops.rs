//! What goes on by itself. Waking a loop is a hint, its tick is the guarantee.

pub mod declared;
pub mod discovery;
pub mod ingest;
pub mod peers;
pub mod planner;
pub mod publisher;
pub mod retention;
pub mod revoker;
pub mod roll_call;
