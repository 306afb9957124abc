//! What a node may say about itself. It is shown in everybody's lists, so it is bounded here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use knit_rpc::api::{FieldProblem, RegisterRequest};
use knit_rpc::message::{IMAGES_TOLD_MAX, NodeFacts};
use knit_rpc::spec::NodePolicy;

const NAME_BYTES_MAX: usize = 253;
const LABELS_MAX: usize = 64;
const LABEL_KEY_CHARS_MAX: usize = 63;
const LABEL_VALUE_CHARS_MAX: usize = 255;
const BOOT_CHARS_MAX: usize = 64;
const HOST_NETWORKS_MAX: usize = 1024;
/// Characters of a version or an architecture.
const WORD_CHARS_MAX: usize = 255;
/// Characters of a sentence.
const SENTENCE_CHARS_MAX: usize = 2048;
/// Peers that a node may not hear.
const UNHEARD_MAX: usize = 10_000;
/// Characters of an image's name, at most.
const IMAGE_CHARS_MAX: usize = 512;
/// Capabilities or paths of a node's policy, at most.
const POLICY_ENTRIES_MAX: usize = 128;
/// Volumes of one node, at most.
const VOLUMES_MAX: usize = 10_000;

/// Every problem of a request to register, by field.
pub(super) fn problems(request: &RegisterRequest) -> Vec<FieldProblem> {
    let mut found = Vec::new();
    let mut must = |field: &str, holds: bool, message: &str| {
        if !holds {
            found.push(problem(field, message));
        }
    };
    must("name", is_name(&request.name), "must be 1 to 253 printable ASCII characters, no spaces");
    must("labels", request.labels.len() <= LABELS_MAX, "must be at most 64");
    must(
        "labels",
        request.labels.iter().all(|(key, value)| is_label(key, value)),
        "must have keys of 1 to 63 and values of at most 255 printable characters",
    );
    must(
        "boot",
        is_printable(&request.boot, BOOT_CHARS_MAX),
        "must be at most 64 printable characters",
    );
    must("nonce", is_nonce(&request.nonce), "must be 32 hex digits");
    must("wg_pubkey", is_wg_key(&request.wg_pubkey), "must be a WireGuard key: 44 base64 digits");
    must(
        "mesh_ip",
        is_mesh_address(request.mesh_ip),
        "must be an address that one host can have: no loopback, link-local, multicast or reserved one",
    );
    let sealing_key = request.sealing_key.as_ref();
    must(
        "sealing_key",
        sealing_key.is_none_or(|key| key.check().is_ok()),
        "must be an X25519 key: 44 base64 digits",
    );
    must("host_networks", request.host_networks.len() <= HOST_NETWORKS_MAX, "must be at most 1024");
    found
}

/// What is wrong with labels that people set or take away.
pub(super) fn label_problems(changes: &BTreeMap<String, Option<String>>) -> Vec<FieldProblem> {
    let mut found = Vec::new();
    if changes.len() > LABELS_MAX {
        found.push(problem("labels", "must be at most 64, with those that were set before"));
    }
    if !changes.iter().all(|(key, value)| is_label(key, value.as_deref().unwrap_or_default())) {
        found.push(problem(
            "labels",
            "must have keys of 1 to 63 and values of at most 255 printable characters",
        ));
    }
    found
}

pub(super) fn problem(field: &str, message: &str) -> FieldProblem {
    FieldProblem { field: field.to_owned(), message: message.to_owned(), line: None, column: None }
}

/// Whether this is a key that a node can sign with.
pub(super) fn is_node_key(nkey: &str) -> bool {
    nkey.starts_with('U') && nkeys::KeyPair::from_public_key(nkey).is_ok()
}

/// Cuts what a heartbeat says to what may be shown; what identifies the node and cannot be cut
/// stays as it was known.
pub(super) fn bounded(facts: NodeFacts, known: &NodeFacts) -> NodeFacts {
    let name = if is_name(&facts.name) { facts.name } else { known.name.clone() };
    let wg_pubkey =
        if is_wg_key(&facts.wg_pubkey) { facts.wg_pubkey } else { known.wg_pubkey.clone() };
    let labels: BTreeMap<String, String> = facts
        .labels
        .into_iter()
        .filter(|(key, value)| is_label(key, value))
        .take(LABELS_MAX)
        .collect();
    NodeFacts {
        name,
        wg_pubkey,
        mesh_ip: facts.mesh_ip.filter(|ip| is_mesh_address(*ip)).or(known.mesh_ip),
        labels,
        arch: cut(&facts.arch, WORD_CHARS_MAX),
        kernel: cut(&facts.kernel, WORD_CHARS_MAX),
        agent_version: cut(&facts.agent_version, WORD_CHARS_MAX),
        docker: facts.docker.map(|version| cut(&version, WORD_CHARS_MAX)),
        trouble: facts.trouble.map(|sentence| cut(&sentence, SENTENCE_CHARS_MAX)),
        cpus: facts.cpus,
        memory: facts.memory,
        disk: facts.disk,
        usage: facts.usage,
        images: facts
            .images
            .into_iter()
            .filter(|name| is_printable(name, IMAGE_CHARS_MAX))
            .take(IMAGES_TOLD_MAX)
            .collect(),
        volumes: facts.volumes.into_iter().take(VOLUMES_MAX).collect(),
        policy: facts.policy.map(bounded_policy),
        unheard: facts.unheard.into_iter().filter(|key| is_wg_key(key)).take(UNHEARD_MAX).collect(),
    }
}

fn bounded_policy(policy: NodePolicy) -> NodePolicy {
    let paths = |paths: BTreeSet<PathBuf>| {
        let fits = |path: &PathBuf| is_printable(&path.to_string_lossy(), SENTENCE_CHARS_MAX);
        paths.into_iter().filter(fits).take(POLICY_ENTRIES_MAX).collect()
    };
    NodePolicy {
        cap_add: policy
            .cap_add
            .into_iter()
            .filter(|name| is_printable(name, WORD_CHARS_MAX))
            .take(POLICY_ENTRIES_MAX)
            .collect(),
        host_paths: paths(policy.host_paths),
        host_paths_read_only: paths(policy.host_paths_read_only),
        ..policy
    }
}

/// The boot id or digest of a heartbeat, cut to what may be remembered.
pub(super) fn cut_word(text: &str) -> String {
    cut(text, WORD_CHARS_MAX)
}

/// The text's first characters, without those that move a terminal's cursor.
fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).map(|c| if is_shown(c) { c } else { ' ' }).collect()
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_label(key: &str, value: &str) -> bool {
    !key.is_empty()
        && is_printable(key, LABEL_KEY_CHARS_MAX)
        && is_printable(value, LABEL_VALUE_CHARS_MAX)
}

fn is_printable(text: &str, chars_max: usize) -> bool {
    text.chars().all(is_shown) && text.chars().count() <= chars_max
}

/// Neither a control character nor one that turns the direction of what follows.
fn is_shown(c: char) -> bool {
    let turns =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns && c != '\u{feff}'
}

fn is_nonce(nonce: &str) -> bool {
    nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn is_wg_key(key: &str) -> bool {
    key.len() == 44 && STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 32)
}

/// Whether one host can have this address on its mesh interface. A mesh's subnet may be any.
fn is_mesh_address(ip: Ipv4Addr) -> bool {
    !(ip.is_loopback()
        || ip.is_multicast()
        || ip.is_unspecified()
        || ip.is_broadcast()
        || ip.is_link_local()
        || ip.octets()[0] >= 240
        || ip.octets()[0] == 0)
}

#[cfg(test)]
mod tests {
    use knit_rpc::Timestamp;
    use knit_rpc::id::NodeId;
    use knit_rpc::message::Generation;

    use super::*;

    fn good() -> RegisterRequest {
        RegisterRequest {
            node: NodeId::from_bytes([1; 16]),
            nkey: String::new(),
            nonce: "0f".repeat(16),
            at: Timestamp::default(),
            cluster: None,
            name: "host-1.example".to_owned(),
            wg_pubkey: STANDARD.encode([7; 32]),
            mesh_ip: [10, 45, 0, 1].into(),
            boot: "b6c1f2d0-7a0e-4a6b-9a64-5b2f0a0c4d11".to_owned(),
            agent_start: Timestamp::default(),
            applied: Generation::default(),
            labels: [("zone".to_owned(), "Zürich 1".to_owned())].into(),
            host_networks: Vec::new(),
            subnet: None,
            sealing_key: None,
            join: None,
            former: None,
        }
    }

    fn label(key: &str, value: &str) -> BTreeMap<String, String> {
        [(key.to_owned(), value.to_owned())].into()
    }

    #[test]
    fn what_is_out_of_bounds_is_named_by_field() {
        let cases: Vec<(&[&str], RegisterRequest)> = vec![
            (&[], good()),
            (&["name"], RegisterRequest { name: String::new(), ..good() }),
            (&["name"], RegisterRequest { name: "a b".into(), ..good() }),
            (&["name"], RegisterRequest { name: "a\u{1b}[2J".into(), ..good() }),
            (&["name"], RegisterRequest { name: "n".repeat(254), ..good() }),
            (&["labels"], RegisterRequest { labels: label("", "v"), ..good() }),
            (&["labels"], RegisterRequest { labels: label("k", "a\nb"), ..good() }),
            (&["labels"], RegisterRequest { labels: label(&"k".repeat(64), ""), ..good() }),
            (&["labels"], RegisterRequest { labels: label("k", &"v".repeat(100_000)), ..good() }),
            (
                &["labels"],
                RegisterRequest {
                    labels: (0..65).map(|n| (n.to_string(), String::new())).collect(),
                    ..good()
                },
            ),
            (&["boot"], RegisterRequest { boot: "b".repeat(65), ..good() }),
            (&["nonce"], RegisterRequest { nonce: "0g".repeat(16), ..good() }),
            (&["nonce"], RegisterRequest { nonce: "00".to_owned(), ..good() }),
            (&["wg_pubkey"], RegisterRequest { wg_pubkey: "key".into(), ..good() }),
            (&["wg_pubkey"], RegisterRequest { wg_pubkey: "!".repeat(44), ..good() }),
            (
                &["sealing_key"],
                RegisterRequest { sealing_key: Some("key".to_owned().into()), ..good() },
            ),
            (
                &["host_networks"],
                RegisterRequest {
                    host_networks: vec!["10.0.0.0/8".parse().unwrap(); 1025],
                    ..good()
                },
            ),
            (
                &["name", "nonce"],
                RegisterRequest { name: String::new(), nonce: String::new(), ..good() },
            ),
        ];
        for (fields, request) in cases {
            let found = problems(&request);
            let found: Vec<&str> = found.iter().map(|problem| problem.field.as_str()).collect();
            assert_eq!(found, fields, "{request:?}");
        }
    }

    #[test]
    fn a_mesh_address_is_one_hosts() {
        for (ip, fits) in [
            ([10, 45, 0, 1], true),
            ([172, 16, 3, 1], true),
            ([192, 168, 7, 1], true),
            ([100, 64, 0, 9], true),
            ([203, 0, 113, 8], true),
            ([127, 0, 0, 1], false),
            ([0, 0, 0, 0], false),
            ([224, 0, 0, 1], false),
            ([255, 255, 255, 255], false),
            ([169, 254, 0, 1], false),
        ] {
            assert_eq!(is_mesh_address(ip.into()), fits, "{ip:?}");
        }
    }

    #[test]
    fn a_heartbeats_facts_are_cut_to_their_bounds() {
        let known = NodeFacts {
            name: "known".to_owned(),
            wg_pubkey: STANDARD.encode([7; 32]),
            mesh_ip: Some([10, 45, 0, 1].into()),
            ..NodeFacts::default()
        };
        let mut labels = label("k", &"v".repeat(256));
        labels.insert("role".to_owned(), "web".to_owned());
        let other = STANDARD.encode([8; 32]);
        let said = NodeFacts {
            name: "a\u{7}b".to_owned(),
            wg_pubkey: "x".to_owned(),
            mesh_ip: Some([127, 0, 0, 1].into()),
            labels,
            docker: Some("20.10\u{1b}[2J".to_owned()),
            trouble: Some("t".repeat(100_000)),
            unheard: ["rubbish".to_owned(), other.clone()].into(),
            ..NodeFacts::default()
        };
        let facts = bounded(said, &known);
        assert_eq!((&facts.name, &facts.wg_pubkey), (&known.name, &known.wg_pubkey));
        assert_eq!(facts.mesh_ip, known.mesh_ip);
        assert_eq!(facts.labels, label("role", "web"));
        assert_eq!(facts.docker.as_deref(), Some("20.10 [2J"));
        assert_eq!(facts.trouble.map(|text| text.len()), Some(SENTENCE_CHARS_MAX));
        assert_eq!(facts.unheard, [other].into());

        let fine = NodeFacts { name: "new".to_owned(), ..known.clone() };
        assert_eq!(bounded(fine.clone(), &known), fine);
    }
}
