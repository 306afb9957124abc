//! What `docs/architecture.md` claims about dependencies, held.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Each heavy crate, and the one package that may name it.
const OWNERS: [(&str, &str); 10] = [
    ("async-nats", "rpc/link"),
    ("jsonrpsee", "rpc/link"),
    ("reqwest", "rpc/link"),
    ("sqlx", "knit-server"),
    ("axum", "knit-server"),
    ("openidconnect", "knit-server"),
    ("bollard", "knit-agent"),
    ("gotatun", "meshctl"),
    ("defguard_wireguard_rs", "meshctl"),
    ("rtnetlink", "meshctl"),
];

/// What a package that only decides may not reach.
const IMPURE: [&str; 7] =
    ["tokio", "nix", "getrandom", "tracing", "socket2", "knit-link", "knit-runtime"];

/// Packages that decide.
const CORES: [&str; 3] = ["knit-server/core", "knit-agent/core", "meshctl/core"];

/// Which of our packages each may use.
const EDGES: [(&str, &[&str]); 11] = [
    ("rpc", &[]),
    ("rpc/link", &["knit-rpc"]),
    ("runtime", &["knit-rpc"]),
    ("runtime/fuzz", &["knit-runtime"]),
    ("knit-server/core", &["knit-rpc"]),
    ("knit-agent/core", &["knit-rpc"]),
    ("meshctl/core", &["knit-rpc"]),
    ("knit-server", &["knit-rpc", "knit-link", "knit-runtime", "knit-server-core"]),
    ("knit-agent", &["knit-rpc", "knit-link", "knit-runtime", "knit-agent-core"]),
    ("meshctl", &["knit-rpc", "knit-link", "knit-runtime", "meshctl-core"]),
    ("knit-cli", &["knit-rpc", "knit-link", "knit-runtime"]),
];

/// The sibling that a package's tests alone may use: the server's decisions are simulated together
/// with the agent's.
const TEST_EDGES: [(&str, &str); 1] = [("knit-server/core", "knit-agent-core")];

/// The dependencies of every package, test-only ones aside.
fn dependencies() -> BTreeMap<&'static str, BTreeSet<String>> {
    named_in("dependencies")
}

fn named_in(table: &str) -> BTreeMap<&'static str, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let read = |dir: &str| {
        let path = root.join(dir).join("Cargo.toml");
        let text = std::fs::read_to_string(&path).expect("a manifest");
        let manifest = toml_edit::Document::parse(text).expect("TOML");
        let table = manifest.as_table().get(table).and_then(|table| table.as_table());
        table.into_iter().flat_map(|table| table.iter()).map(|(name, _)| name.to_owned()).collect()
    };
    EDGES.iter().map(|(dir, _)| (*dir, read(dir))).collect()
}

#[test]
fn every_package_of_the_workspace_is_known_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let text = std::fs::read_to_string(root.join("Cargo.toml")).expect("a manifest");
    let manifest = toml_edit::Document::parse(text).expect("TOML");
    let members = manifest["workspace"]["members"].as_array().expect("members");
    let members: BTreeSet<&str> = members.iter().filter_map(|member| member.as_str()).collect();
    assert_eq!(members, EDGES.iter().map(|(dir, _)| *dir).collect());
}

#[test]
fn each_heavy_crate_has_one_owner() {
    let all = dependencies();
    for (heavy, owner) in OWNERS {
        let users: Vec<_> =
            all.iter().filter(|(_, uses)| uses.contains(heavy)).map(|(dir, _)| *dir).collect();
        assert_eq!(users, [owner], "{heavy}");
    }
}

#[test]
fn what_decides_cannot_reach_the_world() {
    let all = dependencies();
    for core in CORES {
        for impure in IMPURE {
            assert!(!all[core].contains(impure), "{core} uses {impure}");
        }
    }
    for impure in ["tokio", "nix", "tracing"] {
        assert!(!all["rpc"].contains(impure), "rpc uses {impure}");
    }
}

#[test]
fn dependencies_point_one_way() {
    let all = dependencies();
    let ours: BTreeSet<&str> = EDGES.iter().flat_map(|(_, uses)| uses.iter().copied()).collect();
    for (dir, allowed) in EDGES {
        let uses: Vec<_> = all[dir].iter().filter(|name| ours.contains(name.as_str())).collect();
        assert!(uses.iter().all(|name| allowed.contains(&name.as_str())), "{dir} uses {uses:?}");
    }
}

#[test]
fn what_tests_alone_use_of_ours_is_named_here() {
    let ours: BTreeSet<&str> = EDGES.iter().flat_map(|(_, uses)| uses.iter().copied()).collect();
    let found: Vec<(&str, String)> = named_in("dev-dependencies")
        .into_iter()
        .flat_map(|(dir, uses)| uses.into_iter().map(move |name| (dir, name)))
        .filter(|(_, name)| ours.contains(name.as_str()))
        .collect();
    assert_eq!(found, TEST_EDGES.map(|(dir, name)| (dir, name.to_owned())));
}
