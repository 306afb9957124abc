//! What crosses process boundaries, as it is written: manifests and messages.

mod manifests;
mod messages;
