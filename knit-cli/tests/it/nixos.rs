//! The NixOS modules, evaluated by the real evaluator with stand-ins for nixpkgs; with
//! `KNIT_NIXPKGS_LIB=DIR` with nixpkgs' own lib.

mod parity;
mod programs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::support::{stderr, stdout};
use crate::units::EXPOSURE_MAX;

/// The cases whose units are kept.
const KEPT: [&str; 3] = ["plain", "everything", "beside-the-go-daemon"];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn nixos(path: &str) -> PathBuf {
    repository().join("nixos").join(path)
}

fn instantiate(arguments: &[&str]) -> Output {
    Command::new("nix-instantiate")
        .args(arguments)
        .env("NIX_CONFIG", "build-users-group =")
        .env_remove("NIX_PATH")
        .output()
        .expect("nix-instantiate of the package nix-bin")
}

fn evaluate(attribute: &str) -> Output {
    let file = nixos("tests/eval.nix");
    let mut arguments =
        vec!["--store", "dummy://", "--eval", "--strict", "--json", "-A", attribute];
    let lib = std::env::var("KNIT_NIXPKGS_LIB").unwrap_or_default();
    if !lib.is_empty() {
        arguments.extend(["--arg", "libPath", &lib]);
    }
    arguments.push(file.to_str().unwrap());
    instantiate(&arguments)
}

fn evaluated<T: DeserializeOwned>(attribute: &str) -> T {
    let output = evaluate(attribute);
    assert!(output.status.success(), "{attribute}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The units of a case, by their names.
fn units(case: &str) -> BTreeMap<String, String> {
    evaluated(&format!("good.{case}.services"))
}

/// Compares with what is kept; with `KNIT_UPDATE_DOCS` keeps it.
fn is_kept(path: &Path, made: &str) -> bool {
    if std::env::var_os("KNIT_UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, made).unwrap();
    }
    std::fs::read_to_string(path).is_ok_and(|kept| kept == made)
}

fn nix_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            nix_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "nix") {
            found.push(path);
        }
    }
}

#[test]
fn every_nix_file_can_be_parsed() {
    let mut files = vec![repository().join("flake.nix")];
    nix_files(&nixos(""), &mut files);
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        let output = instantiate(&["--parse", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}: {}", file.display(), stderr(&output));
    }
}

#[test]
fn good_configurations_are_taken_and_contradictions_are_refused() {
    let wrong: Vec<String> = evaluated("verdicts");
    assert!(wrong.is_empty(), "{wrong:?}: see nixos/tests/cases.nix");
    let refused: BTreeMap<String, Value> = evaluated("refused");
    assert!(refused.len() > 15, "{refused:?}");
    let warnings: Vec<String> = evaluated("good.warned.warnings");
    assert!(warnings[0].contains("filterForward") && warnings[1].contains("every address"));
}

#[test]
fn what_has_the_wrong_type_is_refused_by_the_option_that_it_is_of() {
    let words: BTreeMap<String, String> = evaluated("mistypedWords");
    assert!(words.len() > 10, "{words:?}");
    for (case, words) in words {
        let output = evaluate(&format!("mistyped.{case}"));
        let told = stderr(&output);
        assert!(!output.status.success() && told.contains(&words), "{case}: {told}");
    }
}

#[test]
fn the_mesh_interface_alone_is_opened_for_what_the_mesh_carries() {
    let everything: Value = evaluated("good.everything.firewall");
    for key in ["allowedTCPPorts", "allowedTCPPortRanges"] {
        assert_eq!(everything[key], serde_json::json!([]), "{key} outside of the mesh");
    }
    assert_eq!(everything["allowedUDPPorts"], serde_json::json!([51900]));
    assert_eq!(everything["interfaces"].as_object().unwrap().len(), 1);
    let mesh = &everything["interfaces"]["mesh0"];
    assert_eq!(mesh["allowedTCPPorts"], serde_json::json!([7500, 7422]));
    let probe = serde_json::json!([{ "from": 54001, "to": 54001 }]);
    assert_eq!(mesh["allowedTCPPortRanges"], probe);
    let external: Value = evaluated("good.external-nats.firewall.interfaces.wg0.allowedTCPPorts");
    assert_eq!(external, serde_json::json!([7400]));
    let plain: Value = evaluated("good.plain.firewall");
    for key in ["allowedTCPPorts", "allowedUDPPorts", "allowedUDPPortRanges", "interfaces"] {
        let of = &plain[key];
        let is_empty = of.as_array().map_or_else(|| of == &serde_json::json!({}), Vec::is_empty);
        assert!(is_empty, "{key}: {of} is open without being asked for");
    }
}

#[test]
fn units_are_as_they_are_kept() {
    for case in KEPT {
        let dir = nixos("tests/units").join(case);
        let mut names = Vec::new();
        for (name, text) in units(case) {
            let path = dir.join(format!("{name}.service"));
            assert!(
                is_kept(&path, &text),
                "{case}/{name} has changed: look at it, and run this test with KNIT_UPDATE_DOCS=1\n{text}"
            );
            names.push(format!("{name}.service"));
        }
        let mut kept: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        kept.sort();
        assert_eq!(kept, names, "{case}");
    }
}

#[test]
fn systemd_takes_the_units_and_finds_them_no_more_exposed_than_those_of_the_packages() {
    let dir = tempfile::tempdir().unwrap();
    for case in KEPT {
        for (name, text) in units(case) {
            // What is in the store is not here.
            let text: String = text
                .lines()
                .map(|line| match line.split_once("=/nix/store/") {
                    Some((key, _)) => format!("{key}=/bin/true\n"),
                    None => format!("{line}\n"),
                })
                .collect();
            let path = dir.path().join(format!("{name}.service"));
            std::fs::write(&path, text).unwrap();
            let analyze = |arguments: &[&str]| {
                Command::new("systemd-analyze").args(arguments).arg(&path).output().unwrap()
            };
            let verified = analyze(&["verify", "--man=no", "--recursive-errors=no"]);
            let told = stderr(&verified);
            assert!(verified.status.success() && told.is_empty(), "{case}/{name}: {told}");
            let (_, most) = EXPOSURE_MAX.iter().find(|(unit, _)| *unit == name).unwrap();
            let threshold = format!("--threshold={most}");
            let marked = analyze(&["security", "--offline=true", &threshold]);
            assert!(marked.status.success(), "{case}/{name}: {}", stdout(&marked));
        }
    }
}

#[test]
fn every_option_is_on_its_page() {
    let options: String = evaluated("options");
    let page = format!(
        "# Options of the NixOS modules\n\nMade from the modules by \
         `knit-cli/tests/it/nixos.rs`; `KNIT_UPDATE_DOCS=1` writes it anew. How they are used stands in \
         [README.md](README.md).\n\n{options}"
    );
    assert!(options.matches("\n## ").count() > 25, "{options}");
    assert!(is_kept(&nixos("options.md"), &page), "nixos/options.md is old: KNIT_UPDATE_DOCS=1");
}

#[test]
fn the_flake_has_what_it_promises() {
    let flake: Value = evaluated("flake");
    let names =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let outputs = serde_json::json!({
        "packages": ["default", "knit-orchestrator"],
        "nixosModules": ["default", "knit-agent", "knit-server", "wg-mesh"],
        "checks": ["deploy", "modules", "node-loss", "server-restart"],
        "devShells": ["default"],
        "overlays": ["default"],
        "formatter": "nixfmt-tree",
    });
    assert_eq!(flake["outputs"], outputs);
    assert_eq!(flake["systems"], serde_json::json!(["aarch64-linux", "x86_64-linux"]));
    assert_eq!(flake["modulesTakeThePackage"], "knit-orchestrator");
    assert_eq!(flake["oldRustIsRefused"], true, "a toolchain that is too old is told");
    for check in ["deploy", "node-loss", "server-restart"] {
        let nodes = &flake["checks"][check]["nodes"];
        assert_eq!(names(nodes), ["one", "server", "two"], "{check}");
        for (name, node) in nodes.as_object().unwrap() {
            assert_eq!(node["failed"], serde_json::json!([]), "{check}: {name}");
        }
    }
}

#[test]
fn the_hosts_of_the_example_are_as_the_page_says() {
    let hosts: BTreeMap<String, Value> = evaluated("example");
    let services = |host: &str| -> Vec<&String> {
        hosts[host]["services"].as_object().unwrap().keys().collect()
    };
    assert_eq!(services("first"), ["knit-agent", "knit-server", "wg-mesh"]);
    for host in ["second", "third"] {
        assert_eq!(services(host), ["knit-agent", "wg-mesh"]);
    }
    for (name, host) in &hosts {
        assert_eq!(host["failed"], serde_json::json!([]), "{name}");
    }
    let example = std::fs::read_to_string(nixos("example/flake.nix")).unwrap();
    let page = std::fs::read_to_string(nixos("README.md")).unwrap();
    assert!(page.contains(&example), "the example of nixos/README.md is not example/flake.nix");
}
