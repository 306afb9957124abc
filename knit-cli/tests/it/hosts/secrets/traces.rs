//! Planted secrets are looked for everywhere, at the most talkative log level.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{memory, set};
use crate::support::{Cluster, IMAGE, stderr, stdout, wait_until};

/// Files that are larger are images' own.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A value that nothing else in the world holds.
fn unique(what: &str) -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).unwrap();
    format!("planted{what}{}", hex::encode(random))
}

/// How a value may be written.
fn forms(value: &str) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    let standard = base64::engine::general_purpose::STANDARD_NO_PAD;
    let mut forms = vec![value.as_bytes().to_vec(), hex::encode(value).into_bytes()];
    forms.push(hex::encode_upper(value).into_bytes());
    // Within something longer base64 begins at any of three places; what is sure is the middle.
    for shift in 0..3 {
        let padded = [&b"\0\0"[..shift], value.as_bytes()].concat();
        let text = standard.encode(padded);
        forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
    }
    forms
}

fn holds(bytes: &[u8], form: &[u8]) -> bool {
    // Searched by its first byte: the plain way takes minutes in a debug build.
    let first = form[0];
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(form) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// Where any of the values stands.
struct Hunt {
    values: Vec<(String, Vec<Vec<u8>>)>,
    found: BTreeSet<String>,
    searched: usize,
}

impl Hunt {
    fn new(values: &[&str]) -> Self {
        let values = values.iter().map(|value| ((*value).to_owned(), forms(value))).collect();
        Self { values, found: BTreeSet::new(), searched: 0 }
    }

    fn bytes(&mut self, place: &str, bytes: &[u8]) {
        self.searched += 1;
        for (value, forms) in &self.values {
            if forms.iter().any(|form| holds(bytes, form)) {
                self.found.insert(format!("{value} in {place}"));
            }
        }
    }

    /// Every file below a directory but those that `skip` names.
    fn files(&mut self, directory: &Path, skip: &[PathBuf]) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if skip.contains(&path) {
                continue;
            }
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() {
                self.files(&path, skip);
            } else if metadata.is_file() && metadata.len() <= FILE_BYTES_MAX {
                self.bytes(&path.display().to_string(), &std::fs::read(&path).unwrap_or_default());
            }
        }
    }

    /// What every process was started with.
    fn processes(&mut self) {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            for what in ["cmdline", "environ"] {
                let path = entry.path().join(what);
                if let Ok(bytes) = std::fs::read(&path) {
                    self.bytes(&path.display().to_string(), &bytes);
                }
            }
        }
    }

    /// All that the API shows.
    fn api(&mut self, cluster: &Cluster) {
        let document = cluster.get("/openapi.json").unwrap();
        let mut asked = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            if methods.get("get").is_none() || path.ends_with("/events") {
                continue;
            }
            for name in names(cluster, path) {
                let path = fill(path, &name);
                let answer = cluster.ask("GET", &path, &Value::Null).unwrap();
                asked += usize::from(answer.status == 200);
                self.bytes(&path, answer.body.to_string().as_bytes());
            }
        }
        assert!(asked >= 15, "only {asked} answers were there");
    }
}

/// What a path's parameter may be.
fn names(cluster: &Cluster, path: &str) -> Vec<String> {
    let list = |of: &str, key: &str| -> Vec<String> {
        let found = cluster.get(of).unwrap();
        let all = found.as_array().cloned().unwrap_or_default();
        all.iter().filter_map(|one| one[key].as_str().map(str::to_owned)).collect()
    };
    match path {
        _ if !path.contains('{') => vec![String::new()],
        _ if path.contains("/deployments/") => list("/deployments", "name"),
        _ if path.contains("/secrets/") => list("/secrets", "name"),
        _ if path.contains("/projects/") => vec!["default".to_owned()],
        _ => list("/nodes", "id"),
    }
}

fn fill(path: &str, name: &str) -> String {
    path.split('/')
        .map(|part| if part.starts_with('{') { name } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

fn app(file: &str, env: &str, template: &str, image: &str, command: &str) -> Value {
    json!({
        "name": "app", "image": image, "command": ["sh", "-c", command],
        "secrets": [
            { "name": file },
            { "name": file, "file": "/etc/pw" },
            { "name": env, "env": "PASSWORD" },
        ],
        "templates": [{
            "destination": "/etc/app.conf", "content": format!("{{{{secret.{template}}}}}"),
        }],
        "update": { "bake": "1s", "drain": "0s", "on_failure": "rollback" },
    })
}

const RUNS: &str = "trap 'exit 0' TERM; sleep 100000 & wait $!";

#[test]
fn no_secret_is_found_where_it_does_not_belong() {
    let instance = format!("s{}", std::process::id());
    let cluster = Cluster::start_with(&instance, 2, &["--log-level", "debug"]);
    cluster.load_image();
    let names = ["in-file", "in-env", "in-template"];
    let old = names.map(|name| unique(&name.replace('-', "")));
    let new = names.map(|name| unique(&format!("new{}", name.replace('-', ""))));
    for (name, value) in names.iter().zip(&old) {
        set(&cluster, name, value);
    }
    let [file, env, template] = names;
    cluster.roll_out(&app(file, env, template, IMAGE, RUNS));
    for (name, value) in names.iter().zip(&new) {
        set(&cluster, name, value);
    }
    wait_until("the last of the new versions", || {
        let view = cluster.get("/deployments/app")?;
        let is_over = view["state"] == "running" && view["revision"] == 4;
        if is_over { Ok(()) } else { Err(view["rollout"].to_string()) }
    });
    // What goes wrong is told at length.
    let missing = cluster.try_deploy(&app(file, env, template, "nowhere.invalid/x:1", RUNS));
    assert!(!missing.status.success());
    let crashing = cluster.try_deploy(&app(file, env, template, IMAGE, "exit 3"));
    assert!(!crashing.status.success());
    let mut wrong = app(file, env, template, IMAGE, RUNS);
    wrong["templates"][0]["content"] = json!("{{secret.in-template}} {{nobody.there}}");
    let wrong = cluster.try_deploy(&wrong);
    assert!(!wrong.status.success());
    wait_until("it is back", || {
        let view = cluster.get("/deployments/app")?;
        if view["state"] == "running" { Ok(()) } else { Err(view["rollout"].to_string()) }
    });

    let everywhere: Vec<&str> = old.iter().chain(&new).map(String::as_str).collect();
    let hidden: Vec<&str> = [&old[0], &old[2], &new[0], &new[2]].map(String::as_str).to_vec();
    // Docker itself keeps the variables of containers, which is why files are better; processes
    // of the container have them as well.
    let containers =
        [1, 2].map(|node| cluster.data_dir().join(format!("{node}/docker/containers")));
    let in_memory = [1, 2].map(|node| memory(&cluster, node));
    let mut hunt = Hunt::new(&everywhere);
    hunt.files(&cluster.data_dir(), &[&containers[..], &shims(&cluster)].concat());
    hunt.files(&cluster.run_dir(), &[&in_memory[..], &shims(&cluster)].concat());
    hunt.api(&cluster);
    for output in [&missing, &crashing, &wrong] {
        hunt.bytes("what knit deploy says", stderr(output).as_bytes());
    }
    hunt.bytes("the audit", cluster.on(1, &["knit", "audit"]).as_bytes());
    assert!(hunt.searched > 100, "{} places", hunt.searched);
    assert_eq!(hunt.found, BTreeSet::new());

    let mut hunt = Hunt::new(&hidden);
    for node in cluster.nodes() {
        for place in [&containers[usize::from(node) - 1], &cluster.run_dir().join(node.to_string())]
        {
            hunt.files(place, &in_memory);
        }
        hunt.files(&cluster.data_dir().join(format!("{node}/containerd")), &[]);
        let ids = cluster.on(node, &["docker", "ps", "-aq"]);
        for id in ids.lines() {
            let inspected = stdout(&cluster.try_on(node, &["docker", "inspect", id]));
            hunt.bytes(&format!("docker inspect {id}"), inspected.as_bytes());
        }
    }
    hunt.processes();
    assert_eq!(hunt.found, BTreeSet::new());

    // The hunt finds what is there: the newest values in memory, and the variable in Docker.
    let mut control = Hunt::new(&everywhere);
    for place in in_memory.iter().chain(&containers) {
        control.files(place, &[]);
    }
    for value in &new {
        let is_found = control.found.iter().any(|found| found.starts_with(value.as_str()));
        assert!(is_found, "{value} is nowhere: {:?}", control.found);
    }
    let logs = cluster.run_dir().join("logs/node-1-server.log");
    let said = std::fs::read_to_string(logs).unwrap_or_default();
    assert!(said.contains("DEBUG"), "the logs are at debug level");
}

/// Where Docker's shims keep the configuration of containers, variables and all.
fn shims(cluster: &Cluster) -> Vec<PathBuf> {
    [1, 2]
        .iter()
        .flat_map(|node| {
            let run = cluster.run_dir().join(node.to_string());
            let data = cluster.data_dir().join(node.to_string());
            [
                run.join("docker"),
                run.join("containerd"),
                data.join("containerd/state"),
                data.join("containerd/io.containerd.runtime.v2.task"),
                data.join("containerd/io.containerd.metadata.v1.bolt"),
            ]
        })
        .collect()
}

#[test]
fn the_hunt_knows_a_value_however_it_is_written() {
    use base64::Engine as _;
    let value = unique("control");
    let mut hunt = Hunt::new(&[&value]);
    hunt.bytes("nothing", b"nothing here");
    assert!(hunt.found.is_empty());
    for (place, text) in [
        ("plain", format!("a {value} b")),
        ("hex", hex::encode(format!("xx{value}"))),
        ("base64", base64::engine::general_purpose::STANDARD.encode(&value)),
        ("base64 within", base64::engine::general_purpose::STANDARD.encode(format!("u:{value}!"))),
        ("base64 further", base64::engine::general_purpose::URL_SAFE.encode(format!("ab{value}"))),
    ] {
        hunt.bytes(place, text.as_bytes());
        assert!(hunt.found.contains(&format!("{value} in {place}")), "{place}");
    }
}
