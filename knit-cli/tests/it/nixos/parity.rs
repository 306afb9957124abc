//! Two ways of installing, one set of units: what differs is wanted, and stands here with its reason.

use std::collections::{BTreeMap, BTreeSet};

use super::{evaluated, repository, units};

/// A unit's lines: by section and key, the words or lines that it has.
type Unit = BTreeMap<String, BTreeSet<String>>;

/// What differs on purpose: unit, section and key, what Debian's has and NixOS' has not, what NixOS' has
/// and Debian's has not.
const WANTED: &[(&str, &str, &[&str], &[&str])] = &[
    // The module asks for what is missing while the system is built; a condition waits for the secret.
    ("wg-mesh", "Service.ExecCondition", &["/bin/sh …"], &[]),
    ("wg-mesh", "Service.SetCredential", &["mesh-secret:none"], &[]),
    ("wg-mesh", "Unit.ConditionPathExists", &[], &["/etc/knit/mesh.secret"]),
    // Enabled is configured.
    ("knit-agent", "Service.ExecCondition", &["/bin/sh …"], &[]),
    // A cluster that is declared is made.
    ("knit-server", "Service.ExecCondition", &["/bin/sh …"], &[]),
    ("knit-server", "Service.ExecStartPre", &[], &["knit-server-init"]),
    // NixOS loads modules by `boot.kernelModules`.
    ("wg-mesh", "Unit.After", &["modprobe@tun.service", "modprobe@wireguard.service"], &[]),
    ("wg-mesh", "Unit.Wants", &["modprobe@tun.service", "modprobe@wireguard.service"], &[]),
    // Nothing is in /usr/bin: what they run is named.
    ("wg-mesh", "Service.X-Path", &[], &["iptables", "nftables"]),
    ("knit-agent", "Service.X-Path", &[], &["iptables", "nftables"]),
    ("knit-server", "Service.X-Path", &[], &["nats-server"]),
    // A switch over the mesh restarts each once instead of stopping it first.
    ("wg-mesh", "Unit.X-StopIfChanged", &[], &["yes"]),
    ("knit-agent", "Unit.X-StopIfChanged", &[], &["yes"]),
    ("knit-server", "Unit.X-StopIfChanged", &[], &["yes"]),
];

/// Keys whose values are sets of words, on one line or on several. A filter of system calls is one too,
/// but its order counts.
const SETS: &[&str] = &[
    "After",
    "Wants",
    "Conflicts",
    "WantedBy",
    "Documentation",
    "RestrictAddressFamilies",
    "SupplementaryGroups",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "X-Path",
];

fn unit(text: &str) -> Unit {
    let mut found = Unit::new();
    let mut section = "";
    let mut filters = 0;
    for line in
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
            continue;
        }
        let (key, value) = line.split_once('=').unwrap();
        let values = found.entry(format!("{section}.{key}")).or_default();
        if SETS.contains(&key) {
            values.extend(value.split_whitespace().map(str::to_owned));
        } else if key == "SystemCallFilter" {
            filters += 1;
            values.insert(format!("{filters} {value}"));
        } else {
            values.insert(plain(key, value));
        }
    }
    found
}

/// One spelling for what systemd takes as the same, and no paths of programs and of their files.
fn plain(key: &str, value: &str) -> String {
    if key == "ExecCondition" {
        return "/bin/sh …".to_owned();
    }
    if key == "X-StopIfChanged" {
        return "yes".to_owned();
    }
    let words = value.split(' ').map(|word| match word {
        "true" | "on" | "1" if !key.contains("Sec") => "yes".to_owned(),
        _ => without_place(word),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn without_place(word: &str) -> String {
    const HASH_CHARS: usize = 33;
    let in_store = word.strip_prefix("/nix/store/").and_then(|rest| rest.get(HASH_CHARS..));
    let in_etc =
        word.strip_prefix("/etc/knit/").filter(|file| file.strip_suffix(".toml").is_some());
    match in_store {
        Some(path) => {
            let name = path.split("/bin/").last().unwrap_or(path);
            name.strip_prefix("checked-").unwrap_or(name).to_owned()
        }
        None => in_etc.or(word.strip_prefix("/usr/bin/")).unwrap_or(word).to_owned(),
    }
}

/// The words that the first has and the second has not.
fn only(first: Option<&BTreeSet<String>>, second: Option<&BTreeSet<String>>) -> Vec<String> {
    let is_new = |word: &&String| second.is_none_or(|second| !second.contains(*word));
    first.into_iter().flatten().filter(is_new).cloned().collect()
}

#[test]
fn the_units_of_both_ways_differ_in_nothing_but_what_is_wanted() {
    let mut differences = BTreeSet::new();
    for (name, nixos) in units("plain") {
        let path = repository().join(format!("packaging/systemd/{name}.service"));
        let debian = unit(&std::fs::read_to_string(path).unwrap());
        let nixos = unit(&nixos);
        let keys: BTreeSet<&String> = debian.keys().chain(nixos.keys()).collect();
        for key in keys {
            let (debian, nixos) = (debian.get(key), nixos.get(key));
            // A key that one has without a value, and the other not at all, is a difference as well.
            if debian != nixos {
                let (gone, new) = (only(debian, nixos), only(nixos, debian));
                differences.insert((name.clone(), key.clone(), gone, new));
            }
        }
    }
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let wanted: BTreeSet<_> = WANTED
        .iter()
        .map(|(unit, key, gone, new)| {
            ((*unit).to_owned(), (*key).to_owned(), owned(gone), owned(new))
        })
        .collect();
    let unwanted: Vec<_> = differences.difference(&wanted).collect();
    let no_longer: Vec<_> = wanted.difference(&differences).collect();
    assert!(
        unwanted.is_empty() && no_longer.is_empty(),
        "differ and are not listed: {unwanted:#?}\nlisted and do not differ: {no_longer:#?}"
    );
}

#[test]
fn a_difference_of_any_kind_is_seen() {
    let of = |text: &str| unit(&format!("[Service]\n{text}\n"));
    for (debian, nixos) in [
        ("ProtectHome=yes", "ProtectHome=false"),
        ("ProtectHome=yes", "ProtectHome=read-only"),
        ("SystemCallFilter=@a\nSystemCallFilter=~@b", "SystemCallFilter=~@b\nSystemCallFilter=@a"),
        ("CapabilityBoundingSet=", "CapabilityBoundingSet=CAP_CHOWN"),
        ("CapabilityBoundingSet=", "UMask=0077"),
        (
            "ExecStart=/usr/bin/a run",
            "ExecStart=/nix/store/00000000000000000000000000000000-k/bin/a join",
        ),
        ("RestartSec=1", "RestartSec=yes"),
    ] {
        assert_ne!(of(debian), of(nixos), "{debian} {nixos}");
    }
    for (debian, nixos) in [
        ("ProtectHome=yes", "ProtectHome=true"),
        (
            "RestrictAddressFamilies=AF_INET AF_UNIX",
            "RestrictAddressFamilies=AF_UNIX\nRestrictAddressFamilies=AF_INET",
        ),
        (
            "ExecStart=/usr/bin/a run --config /etc/knit/a.toml",
            "ExecStart=/nix/store/00000000000000000000000000000000-k/bin/a run --config /nix/store/00000000000000000000000000000000-checked-a.toml",
        ),
    ] {
        assert_eq!(of(debian), of(nixos), "{debian} {nixos}");
    }
}

#[test]
fn the_daemons_run_as_the_same_users() {
    let users: BTreeMap<String, serde_json::Value> = evaluated("good.plain.users");
    let nixos: BTreeSet<String> = users
        .iter()
        .map(|(name, user)| {
            assert_eq!(user["isSystemUser"], true, "{name}");
            assert_eq!(user["group"], **name, "{name}");
            format!("u {name} - {} {}", user["description"], user["home"].as_str().unwrap())
        })
        .collect();
    let mut debian = BTreeSet::new();
    for package in ["meshctl", "knit-server", "knit-agent"] {
        let path = repository().join(format!("packaging/debian/{package}/{package}.sysusers"));
        let text = std::fs::read_to_string(path).unwrap();
        debian.extend(text.lines().filter(|line| line.starts_with("u ")).map(str::to_owned));
    }
    assert_eq!(nixos, debian);
}
