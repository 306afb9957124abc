//! Deterministic fuzzers for what strangers can send: the sealed datagram, the message in it, that
//! message to a node that requires certificates, a line on the socket, and one on the probe port.
//!
//! How long a run takes is said to `knit-fuzz`.

mod announcement;
mod datagram;
mod probe_line;
mod signed;
mod socket_line;

use std::path::Path;

use knit_fuzz::Fuzz;

const INPUT_MAX_BYTES: usize = 4_096;
/// What the mesh's messages hold.
const WORDS: [&str; 19] = [
    "0.0.0.0",
    "0.0.0.0/0",
    "::ffff:127.0.0.1",
    "[::]:1",
    ":65536",
    "255.255.255.255",
    "\"known_peers\":[",
    "\"mesh_ip\":",
    "\"wg_pubkey\":",
    "\"wg_endpoint\":",
    "\"kn\":{\"type\":\"LAN\"}",
    "\"cert\":\"knit-cert-v1.",
    "\"revoked\":[\"knit-revoked-v1.",
    "\"accepts\":\"",
    ",\"sig\":\"",
    "\"}}",
    "\"id\":",
    "\"method\":",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
];

/// Feeds `target` from the corpus `name`.
fn fuzz(name: &str, runs: u32, target: impl FnMut(&[u8]) -> String) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    Fuzz { corpus: &corpus, words: &WORDS, runs, input_max: INPUT_MAX_BYTES }.run(target);
}
