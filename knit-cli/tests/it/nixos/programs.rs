//! What the modules hand to the programs, handed to the programs.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use knit_rpc::spec::{self, Format};
use serde_json::Value;

use super::{evaluated, repository};
use crate::support::stderr;

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_knit")).with_file_name(name)
}

/// The configuration that a script has a program check, as JSON.
fn checked(start: &str) -> Value {
    let line = start.lines().find(|line| line.contains(" check-config ")).expect("it is checked");
    serde_json::from_str(line.split(" check-config ").nth(1).unwrap()).unwrap()
}

#[test]
fn programs_take_the_settings_that_the_modules_write() {
    let starts: BTreeMap<String, String> = evaluated("starts");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    for (unit, name) in
        [("wg-mesh", "meshctl"), ("knit-agent", "knit-agent"), ("knit-server", "knit-server")]
    {
        let start = &starts[unit];
        let mut settings = checked(start);
        assert!(settings.as_object().unwrap().len() > 2, "{settings}");
        assert!(start.contains(&format!("/bin/{name} check-config ")), "{start}");
        let check = |settings: &Value| {
            std::fs::write(&path, toml::to_string(settings).unwrap()).unwrap();
            Command::new(program(name)).arg("check-config").arg(&path).output().unwrap()
        };
        let output = check(&settings);
        assert!(output.status.success(), "{name}: {settings} {}", stderr(&output));
        settings["no_such_key"] = Value::Bool(true);
        let output = check(&settings);
        assert!(stderr(&output).contains("no_such_key"), "{name}: {}", stderr(&output));
    }
}

#[test]
fn declared_deployments_are_manifests() {
    for (of, count) in [
        ("good.everything.deployments", 2),
        ("example.first.deployments", 1),
        ("flake.checks.deploy.nodes.server.deployments", 1),
    ] {
        let declared: BTreeMap<String, Value> = evaluated(of);
        assert_eq!(declared.len(), count, "{of}");
        for (file, manifest) in declared {
            let spec = spec::parse(&manifest.to_string(), Format::Json);
            let spec = spec.unwrap_or_else(|problems| panic!("{of}: {file}: {problems}"));
            assert_eq!(spec.name.as_str(), manifest["name"]);
        }
    }
}

#[test]
fn a_cluster_is_made_once_and_its_token_is_not_printed() {
    let script: String = evaluated("init");
    let dir = tempfile::tempdir().unwrap();
    let (state, fake) = (dir.path().join("state"), dir.path().join("fake"));
    std::fs::create_dir(&state).unwrap();
    let text = "#!/bin/sh\necho knit_token\ncd \"$STATE_DIRECTORY\"\necho \"$1 $2\" >>calls\n\
                ! test -e broken || exit 3\ntouch identity.json\n";
    std::fs::write(&fake, text).unwrap();
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (before, after) = script.split_once("/nix/store/").unwrap();
    let (_, after) = after.split_once("/bin/knit-server ").unwrap();
    let script = format!("{before}{} {after}", fake.display());
    let run = || {
        let run = Command::new("sh").args(["-c", &script]).env("STATE_DIRECTORY", &state).output();
        let output = run.unwrap();
        assert!(output.stdout.is_empty(), "the token is in the journal: {output:?}");
        output.status.code().unwrap()
    };
    std::fs::write(state.join("broken"), "").unwrap();
    assert_eq!(run(), 3, "a cluster that cannot be made keeps the server from starting");
    std::fs::remove_file(state.join("broken")).unwrap();
    assert_eq!([run(), run()], [0, 0]);
    let calls = std::fs::read_to_string(state.join("calls")).unwrap();
    assert_eq!(calls, "init --config\ninit --config\n", "once without success, once with it");
}

#[test]
fn the_package_has_every_source_and_needs_no_hash() {
    let flake: Value = evaluated("flake");
    let package = &flake["package"];
    assert_eq!(package["missing"], serde_json::json!([]));
    assert_eq!(package["lock"], true);
    assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(package["mainProgram"], "knit");
    assert_eq!(package["env"]["KNIT_DATE"], "2026-11-20");
    let lock = std::fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    assert!(!lock.contains("source = \"git+"), "cargoLock would need outputHashes");
    let sources: Vec<&str> =
        package["source"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    // Every package of the workspace lies within.
    let manifest = std::fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&manifest).unwrap();
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let top = member.as_str().unwrap().split('/').next().unwrap();
        assert!(sources.contains(&top), "{top} is not in nixos/package.nix");
    }
    // And so does what they include.
    let mut files = Vec::new();
    for source in sources.iter().filter(|source| !source.contains('.')) {
        rust_files(&repository().join(source), &mut files);
    }
    let mut included = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for path in text.split("include_str!(\"").skip(1) {
            let path = file.parent().unwrap().join(path.split('"').next().unwrap());
            let Ok(path) = path.canonicalize() else { continue };
            let within = path.strip_prefix(repository().canonicalize().unwrap()).unwrap();
            let top = within.components().next().unwrap().as_os_str().to_string_lossy();
            assert!(sources.contains(&&*top), "{} includes {}", file.display(), within.display());
            included += 1;
        }
    }
    assert!(included > 5, "{included}");
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.ends_with("tests") {
            continue;
        }
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
