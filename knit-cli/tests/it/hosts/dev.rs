//! `knit dev` itself: what it makes, its end or its next start removes.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Cluster, IMAGE, wait_until};

fn instance(what: &str) -> String {
    format!("t{}-{what}", std::process::id())
}

/// What is left of an instance, as sentences.
fn leftovers(cluster: &Cluster) -> Vec<String> {
    let mut left = Vec::new();
    for dir in [cluster.run_dir(), cluster.data_dir()] {
        if dir.exists() {
            left.push(format!("the directory {}", dir.display()));
        }
    }
    let prefix = format!("knit-dev-{}", cluster.instance);
    for (dir, what) in [("/run/netns", "namespace"), ("/sys/fs/cgroup", "control group")] {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let below = entry.path().join(&prefix);
            if name.starts_with(&prefix) || (what == "control group" && below.exists()) {
                left.push(format!("the {what} {name}"));
            }
        }
    }
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&format!("/{prefix}/")) {
            left.push(format!("the process {line}"));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(mounts.lines().filter(|line| line.contains(&prefix)).map(str::to_owned));
    left
}

fn host_network() -> String {
    let commands = [["-o", "addr"].as_slice(), &["route"], &["-o", "link"]];
    let outputs = commands.map(|args| Command::new("ip").args(args).output().unwrap().stdout);
    let text = outputs.map(|output| String::from_utf8_lossy(&output).into_owned()).concat();
    // Interfaces of other tests may come and go; a bridge of ours would be here.
    text.lines().filter(|line| line.contains("knitdev")).collect()
}

fn deploy_sleeper(cluster: &Cluster) {
    cluster.load_image();
    cluster.deploy(&json!({ "name": "sleeper", "image": IMAGE, "command": ["sleep", "10000"] }));
}

#[test]
fn a_stopped_cluster_leaves_nothing_behind() {
    let cluster = Cluster::start(&instance("stop"), 1);
    assert_eq!(host_network(), "", "the host's own interfaces are not ours");
    deploy_sleeper(&cluster);
    cluster.signal_dev(Signal::SIGINT);
    assert!(cluster.wait_ended(), "{}", cluster.said());
    assert_eq!(leftovers(&cluster), Vec::<String>::new());
}

#[test]
fn the_next_run_removes_what_a_killed_one_left() {
    let name = instance("kill");
    let killed = Cluster::start(&name, 1);
    deploy_sleeper(&killed);
    // The worst case: nothing of the cluster hears of the end.
    for part in ["agent", "server", "dockerd", "containerd", "mesh"] {
        killed.kill(1, part);
    }
    killed.signal_dev(Signal::SIGKILL);
    killed.wait_ended();
    assert!(!leftovers(&killed).is_empty(), "a shim and its container outlive their Docker");

    let next = Cluster::start(&name, 1);
    let containers = next.on(1, &["docker", "ps", "-aq"]);
    assert_eq!(containers, "", "a new Docker knows no old containers");
    assert!(next.dev(&["stop"]).status.success());
    next.wait_ended();
    assert_eq!(leftovers(&next), Vec::<String>::new());
}

#[test]
fn a_second_run_of_one_name_is_refused_and_harms_nothing() {
    let cluster = Cluster::start(&instance("twice"), 1);
    let output = cluster.dev(&["--nodes", "1"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(text.contains("runs already"), "{text}");
    assert!(cluster.dev(&["status"]).status.success());
}

#[test]
fn a_dead_child_is_reported_with_its_last_lines_and_can_be_started_again() {
    let cluster = Cluster::start(&instance("child"), 1);
    cluster.kill(1, "agent");
    wait_until("the report of the death", || {
        let said = cluster.said();
        let told = said.contains("the agent of node 1 died (killed by SIGKILL)");
        if told && said.contains("         | ") { Ok(()) } else { Err(said) }
    });
    assert_eq!(cluster.state()["nodes"][0]["parts"][4]["running"], false);
    cluster.start_part(1, "agent");
    cluster.wait_ready();
}

/// The host is played by a node of another cluster, whose own programs are out of the way.
#[test]
fn without_nodes_the_host_itself_is_the_node_and_keeps_its_docker() {
    let host = Cluster::start(&instance("host"), 1);
    host.load_image();
    let own = host.on(1, &["docker", "run", "-d", IMAGE, "sleep", "10000"]);
    for part in ["agent", "server", "mesh"] {
        host.kill(1, part);
    }
    host.on(1, &["nft", "delete", "table", "ip", "knit"]);
    host.on(1, &["docker", "network", "rm", "knit"]);
    host.on(1, &["ip", "link", "delete", "wg0"]);
    let before = host.on(
        1,
        &[
            "sh",
            "-c",
            "ip -br addr; ip route; nft list tables; docker ps -aq; docker network ls -q",
        ],
    );

    let inner = instance("inner");
    let socket = host.run_dir().join("1/docker.sock").display().to_string();
    let dev = ["knit", "dev", "--instance", &inner, "--docker-socket", &socket];
    let mut running = host.spawn_on(1, &dev);
    host.on(1, &["knit", "dev", "--instance", &inner, "status", "--wait", "30"]);
    let manifest = host.run_dir().join("sleeper.json").display().to_string();
    let sleeper = json!({ "name": "sleeper", "image": IMAGE, "command": ["sleep", "10000"] });
    std::fs::write(&manifest, sleeper.to_string()).unwrap();
    let exec = ["knit", "dev", "--instance", &inner, "exec", "1", "--"];
    host.on(1, &[exec.as_slice(), &["knit", "deploy", "-f", &manifest]].concat());
    assert_eq!(host.containers(1).len(), 1);

    host.on(1, &["knit", "dev", "--instance", &inner, "stop"]);
    assert!(running.wait().unwrap().success());
    let after = host.on(
        1,
        &[
            "sh",
            "-c",
            "ip -br addr; ip route; nft list tables; docker ps -aq; docker network ls -q",
        ],
    );
    assert_eq!(after, before);
    assert!(before.contains(&own[..12]), "the host's own container is untouched");
}

#[test]
fn directories_that_are_not_ours_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let precious = dir.path().join("data/precious");
    std::fs::create_dir_all(precious.parent().unwrap()).unwrap();
    std::fs::write(&precious, "x").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_knit"))
        .args(["dev", "--nodes", "1", "--instance", &instance("foreign")])
        .args([Path::new("--dir"), dir.path()])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("did not make"));
    assert!(precious.exists());
}
