//! The server of a mesh that this machine is not in, through ssh.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::deploy::web;
use crate::support::{Cluster, Sshd, hosts, processes_with, stderr, stdout, wait_until};

/// `knit` as on a laptop: with nothing of this machine's but what is named.
fn knit(sshd: &Sshd, server: &str) -> Command {
    // It passes signals on.
    let mut command = Command::new("/usr/bin/timeout");
    command
        .args(["60", env!("CARGO_BIN_EXE_knit")])
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", sshd.dir())
        .env("XDG_RUNTIME_DIR", sshd.dir())
        .env("KNIT_SSH", sshd.client("known_hosts"))
        .env("KNIT_SERVER", server)
        .stdin(Stdio::null());
    command
}

fn address(cluster: &Cluster, sshd: &Sshd, user: &str) -> String {
    format!("ssh://{user}@127.0.0.1:{}{}", sshd.port, cluster.api_socket().display())
}

#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    let told = stderr(output);
    assert!(!output.status.success() && words.iter().all(|word| told.contains(word)), "{told}");
}

/// Directories of connections that are still there.
fn left(sshd: &Sshd) -> Vec<String> {
    let entries = std::fs::read_dir(sshd.dir()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("knit-ssh-")).collect()
}

#[test]
fn root_on_the_servers_host_is_admin_through_ssh_and_needs_no_token() {
    let cluster = hosts();
    let sshd = Sshd::start();
    let server = address(&cluster, &sshd, "root");
    let listed = knit(&sshd, &server).args(["node", "ls", "-o", "name"]).output().unwrap();
    assert_eq!(stdout(&listed), "node-1\nnode-2\nnode-3", "{}", stderr(&listed));
    let told = knit(&sshd, &server).args(["whoami", "-o", "json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["name"], "root on the server's host", "{told}");

    // The manifest comes by standard input, what becomes of it as a stream of events.
    let mut deploy = knit(&sshd, &server);
    let mut deploy = deploy
        .args(["deploy", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let manifest = web("from-afar", 1, 8123).to_string();
    deploy.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
    let output = deploy.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(left(&sshd), [""; 0]);
}

#[test]
fn a_stream_through_ssh_flows_and_its_interrupt_leaves_no_ssh() {
    let cluster = hosts();
    let sshd = Sshd::start();
    let server = address(&cluster, &sshd, "root");
    let mut follow = knit(&sshd, &server);
    let mut follow =
        follow.args(["audit", "-f"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines().map_while(Result::ok);
    // What is done while it runs comes through.
    let network = serde_json::json!({ "name": "through-ssh" });
    wait_until("ssh to be connected", || {
        let found = processes_with(&format!("127.0.0.1:{}", sshd.port));
        let found = [found, processes_with(&format!("-p {}", sshd.port))].concat();
        if found.is_empty() { Err("none".to_owned()) } else { Ok(()) }
    });
    cluster.must("POST", "/networks", &network);
    assert!(lines.any(|line| line.contains("POST /networks")));
    let pid = Pid::from_raw(i32::try_from(follow.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    follow.wait().unwrap();
    cluster.must("DELETE", "/networks/through-ssh", &Value::Null);
    wait_until("the ssh to be gone", || {
        let left = processes_with(&format!("-p {}", sshd.port));
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
}

#[test]
fn who_is_not_root_there_is_told_what_to_do_and_gets_in_with_a_token() {
    let cluster = hosts();
    let sshd = Sshd::start();
    // Where packages put the socket everybody can reach it.
    for directory in [cluster.run_dir(), cluster.run_dir().join("1")] {
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o711)).unwrap();
    }
    let server = address(&cluster, &sshd, "nobody");
    let output = knit(&sshd, &server).args(["status"]).output().unwrap();
    refused(&output, &["you are user 65534", "knit token create", "KNIT_TOKEN"]);
    let token = cluster.on(1, &["knit", "token", "create", "laptop", "--role", "viewer"]);
    let told = knit(&sshd, &server).env("KNIT_TOKEN", &token).args(["whoami"]).output().unwrap();
    assert!(stdout(&told).contains("token laptop"), "{told:?}");

    // A login keeps it, and pins the key of the server that is there.
    let key = cluster.on(1, &["knit", "whoami", "-o", "json"]);
    let key: Value = serde_json::from_str(&key).unwrap();
    let file = sshd.dir().join("token");
    std::fs::write(&file, &token).unwrap();
    let login = knit(&sshd, &server)
        .args(["login", "--server-key", key["server_key"].as_str().unwrap(), "--token-file"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(login.status.success(), "{}", stderr(&login));
    let told = knit(&sshd, "").env_remove("KNIT_SERVER").args(["whoami"]).output().unwrap();
    let shown = stdout(&told);
    assert!(shown.contains("token laptop") && shown.contains(&server), "{told:?}");
}

#[test]
fn what_keeps_ssh_from_the_server_is_said_in_its_own_words() {
    let cluster = hosts();
    let sshd = Sshd::start();
    let server = address(&cluster, &sshd, "root");
    let strange = knit(&sshd, &server)
        .env("KNIT_SSH", sshd.client("unknown"))
        .args(["status"])
        .output()
        .unwrap();
    refused(&strange, &["Host key verification failed.", "no connection to root@127.0.0.1"]);
    let nowhere = format!("ssh://root@127.0.0.1:{}/run/none.sock", sshd.port);
    let nobody = knit(&sshd, &nowhere).args(["status"]).output().unwrap();
    refused(&nobody, &["no server answers there on /run/none.sock"]);
    let option = knit(&sshd, "ssh://-oProxyCommand=touch").args(["status"]).output().unwrap();
    refused(&option, &["is no address of a server", "names no host for ssh"]);
    let none = knit(&sshd, &server).env("KNIT_SSH", "/none/ssh").args(["status"]).output().unwrap();
    refused(&none, &["/none/ssh cannot be started", "openssh-client"]);
    assert_eq!(left(&sshd), [""; 0]);
}
