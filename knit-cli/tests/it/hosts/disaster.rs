//! The server's disk is gone: the drill of `docs/operations.md`, from a backup. From what the nodes
//! hold alone it is in `alone`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::deploy::web;
use crate::support::{Cluster, hosts, stderr, stdout, wait_until};

/// A command of the server's program on the server's host, on its state directory; what it said.
#[track_caller]
fn server(cluster: &Cluster, what: &str, args: &[&str]) -> String {
    let state = state(cluster).display().to_string();
    let socket = cluster.api_socket().display().to_string();
    let command = ["knit-server", what, "--state-dir", &state, "--socket", &socket];
    let output = cluster.try_on(1, &[&command, args].concat());
    assert!(output.status.success(), "{what}: {}", stderr(&output));
    stderr(&output)
}

fn state(cluster: &Cluster) -> PathBuf {
    cluster.data_dir().join("1/server")
}

#[track_caller]
fn wait_running(cluster: &Cluster, name: &str, count: &str) {
    wait_until(&format!("{name} to run {count}"), || {
        let output = cluster.try_on(1, &["knit", "status", name]);
        let text = stdout(&output);
        if text.contains(count) && !text.contains("deploying") {
            Ok(())
        } else {
            Err(format!("{text}{}", stderr(&output)))
        }
    });
}

fn all_containers(cluster: &Cluster) -> Vec<Vec<String>> {
    cluster.nodes().map(|node| cluster.containers(node)).collect()
}

/// Everything that the server had, its mesh's and its agent's aside.
fn lose(path: &Path) {
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_server_restored_from_a_backup_keeps_every_container_of_before_and_after_it() {
    let cluster = hosts();
    for (name, replicas, port) in [("kept", 3, 8080), ("changed", 2, 8081), ("gone", 1, 8082)] {
        cluster.deploy(&web(name, replicas, port));
    }
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("knit.tar").display().to_string();
    let begin = Instant::now();
    let told = server(&cluster, "backup", &["--out", &file]);
    let taken = begin.elapsed();
    assert!(told.contains("3 deployments, 6 instances, 3 nodes"), "{told}");

    let mut changed = web("changed", 2, 8081);
    changed["env"]["GREETING"] = "hello".into();
    cluster.deploy(&changed);
    cluster.deploy(&web("late", 2, 8083));
    cluster.on(1, &["knit", "undeploy", "gone"]);
    let before = all_containers(&cluster);
    assert_eq!(before.concat().len(), 3 + 2 + 2);
    cluster.kill(1, "server");
    lose(&state(&cluster));

    let begin = Instant::now();
    server(&cluster, "restore", &[&file]);
    let restored = begin.elapsed();
    cluster.start_part(1, "server");
    for (name, count) in [("kept", "3/3"), ("changed", "2/2"), ("late", "2/2")] {
        wait_running(&cluster, name, count);
    }
    let back = begin.elapsed();
    println!("backup {taken:?}; restore {restored:?}, all shown running again after {back:?}");
    cluster.wait_ready();
    assert_eq!(all_containers(&cluster), before, "the same containers\n{}", cluster.logs());
    wait_until("gone to be gone", || {
        let shown = cluster.on(1, &["knit", "list", "deployments", "-o", "name"]);
        let is_so = shown.lines().collect::<Vec<_>>() == ["changed", "kept", "late"];
        if is_so { Ok(()) } else { Err(cluster.on(1, &["knit", "status"])) }
    });
    assert_eq!(all_containers(&cluster), before, "nor did it come back meanwhile");
    let audit = cluster.on(1, &["knit", "audit"]);
    assert!(audit.contains("from the backup of"), "{audit}");

    // All of it can be changed and removed as before.
    cluster.deploy(&web("late", 3, 8083));
    wait_running(&cluster, "late", "3/3");
    for (name, port) in [("kept", 8080), ("late", 8083)] {
        let page = cluster.page(2, 2, port).unwrap();
        assert_eq!(page, "<p>hi from node-2</p>", "{name}");
    }
    for name in ["kept", "changed", "late"] {
        cluster.on(1, &["knit", "undeploy", name]);
    }
    wait_until("nothing to be left", || {
        let left = all_containers(&cluster).concat();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
