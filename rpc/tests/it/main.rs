//! What crosses process boundaries, as it is written: manifests and messages.

mod architecture;
mod fuzz;
mod licences;
mod manifests;
mod messages;
mod orchestration;
