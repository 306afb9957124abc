//! Disks that are full: said clearly, nothing stops, and it goes on when there is room.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::deploy::web;
use crate::support::{Cluster, IMAGE, hosts, wait_until};

/// Manifests of nearly a megabyte that a full disk takes, at most.
const LARGE_MAX: u32 = 12;

/// A program's state on a file system of its own that is as good as full. The state is back in its
/// place, and the program restarted, when this is dropped.
struct SmallDisk<'a> {
    cluster: &'a Cluster,
    node: u8,
    part: &'static str,
    dir: PathBuf,
}

impl<'a> SmallDisk<'a> {
    fn under(cluster: &'a Cluster, node: u8, part: &'static str, spare_kib: u64) -> Self {
        let dir = cluster.data_dir().join(format!("{node}/{part}"));
        cluster.kill(node, part);
        wait_unused(&dir);
        let held = run(Command::new("du").arg("-sk").arg(&dir));
        let held: u64 = held.split_whitespace().next().unwrap().parse().unwrap();
        let size = format!("size={}k", held + spare_kib);
        let disk = Self { cluster, node, part, dir };
        run(Command::new("cp").arg("-a").arg(&disk.dir).arg(disk.aside()));
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&disk.dir));
        run(Command::new("cp").arg("-a").arg(disk.aside().join(".")).arg(&disk.dir));
        cluster.start_part(node, part);
        cluster.wait_ready();
        disk
    }

    fn aside(&self) -> PathBuf {
        self.dir.with_extension("aside")
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut of = std::ffi::OsString::from("of=");
        of.push(self.filler());
        let output = Command::new("dd").args(["if=/dev/zero", "bs=4k"]).arg(of).output().unwrap();
        assert!(!output.status.success(), "the disk is full before dd ends: {output:?}");
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.filler());
        self.cluster.dev(&["kill", &self.node.to_string(), self.part]);
        wait_unused(&self.dir);
        let newest = self.dir.with_extension("newest");
        let _ = Command::new("cp").arg("-a").arg(&self.dir).arg(&newest).status();
        let _ = Command::new("umount").arg(&self.dir).status();
        let _ = std::fs::remove_dir_all(&self.dir);
        let _ = std::fs::rename(&newest, &self.dir);
        let _ = std::fs::remove_dir_all(self.aside());
        self.cluster.dev(&["start", &self.node.to_string(), self.part]);
    }
}

/// Waits until no program has the directory on its command line: a server's child ends after it.
fn wait_unused(dir: &Path) {
    wait_until("programs to have ended", || {
        let mut users = Vec::new();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&format!("{}/", dir.display())) {
                users.push(line);
            }
        }
        if users.is_empty() { Ok(()) } else { Err(users.join(", ")) }
    });
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether this is how a person is told of a full disk.
fn tells_of_a_full_disk(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains("no space left") || text.contains("disk is full") || text.contains("full disk")
}

#[test]
fn an_agent_whose_disk_is_full_says_so_stops_nothing_and_goes_on_when_there_is_room() {
    let cluster = hosts();
    cluster.roll_out(&web("calm", 3, 8080));
    let before = cluster.containers(2);
    let disk = SmallDisk::under(&cluster, 2, "agent", 256);
    disk.fill();
    let mut more = web("more", 1, 8081);
    more["where"] = json!("name == \"node-2\"");
    more["update"] = json!({ "bake": "0s" });
    cluster.submit(&more);
    wait_until("the full disk to be told of", || {
        let instances = cluster.instances_of("more")?;
        let node = cluster.node_view(2)?;
        let text = format!("{instances:?} {node}");
        if tells_of_a_full_disk(&text) { Ok(()) } else { Err(text) }
    });
    assert_eq!(cluster.page(1, 2, 8080).as_deref(), Ok("<p>hi from node-2</p>"));
    assert_eq!(cluster.containers(2), before, "nothing was stopped");
    disk.make_room();
    wait_until("it to go on", || {
        let view = cluster.get("/deployments/more")?;
        if view["running"] == 1 { Ok(()) } else { Err(view.to_string()) }
    });
    let after = cluster.containers(2);
    assert!(before.iter().all(|container| after.contains(container)), "{before:?} {after:?}");
}

#[test]
fn a_server_whose_disk_is_full_says_so_stops_nothing_and_goes_on_when_there_is_room() {
    let cluster = hosts();
    cluster.roll_out(&web("calm", 3, 8080));
    let all = || -> Vec<_> { cluster.nodes().map(|node| cluster.containers(node)).collect() };
    let before = all();
    // Later there is to be room for what was accepted and could not be planned: some megabytes.
    let disk = SmallDisk::under(&cluster, 1, "server", 8192);
    disk.fill();
    // The database's journal has some room of its own: large manifests, of which nothing is run.
    let large = |number: u32| {
        json!({
            "name": format!("large-{number}"),
            "image": IMAGE,
            "replicas": 0,
            "env": { "PADDING": "x".repeat(900_000) },
        })
    };
    let refused = (0..LARGE_MAX)
        .map(|number| cluster.ask("POST", "/deployments", &large(number)).unwrap())
        .find(|answer| answer.status != 202)
        .expect("the disk is full");
    assert_eq!(refused.status, 507, "{refused:?}");
    assert!(tells_of_a_full_disk(&refused.body.to_string()), "{refused:?}");
    for node in cluster.nodes() {
        assert_eq!(
            cluster.page(node % 3 + 1, node, 8080),
            Ok(format!("<p>hi from node-{node}</p>"))
        );
    }
    assert_eq!(all(), before, "nothing was stopped");
    disk.make_room();
    let more = json!({ "name": "more", "image": IMAGE, "command": ["sleep", "10000"] });
    wait_until("the server to take it", || {
        let answer = cluster.ask("POST", "/deployments", &more)?;
        if answer.status == 202 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    wait_until("it to run", || {
        let view: Value = cluster.get("/deployments/more")?;
        if view["running"] == 1 { Ok(()) } else { Err(format!("{view}\n{}", cluster.logs())) }
    });
    let after = all();
    for (before, after) in before.iter().zip(&after) {
        assert!(before.iter().all(|container| after.contains(container)), "{before:?} {after:?}");
    }
}
