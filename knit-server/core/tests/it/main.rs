//! Tests of the server's and the agents' decisions together.

mod simulation;
