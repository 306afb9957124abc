//! Every command beside a Go daemon: five methods, its habits, and no word of ours.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Output;
use std::thread;

use serde_json::Value;

use crate::support::{Lan, MESHCTL};

const KEY_A: &str = "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=";
const KEY_B: &str = "NYBy1jZYgNGu6jKa35EhODhR7SGijjt16WXQ0s0WYlQ=";
const KEY_C: &str = "eaYx7t4b+cmPEgMs3q3Q56B5OY/HhriMyEbsia+FpRo=";

/// A daemon that answers as `wgmesh` does; `peers` is what stands in its list.
fn go_daemon(lan: &Lan, peers: String) {
    let listener = UnixListener::bind(lan.socket(1)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let peers = peers.clone();
            // A client that has what it wanted goes.
            thread::spawn(move || drop(serve(&stream.unwrap(), &peers)));
        }
    });
}

fn serve(stream: &UnixStream, peers: &str) -> std::io::Result<()> {
    let mut uptime = 0;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let method = request["method"].as_str().unwrap_or_default();
        // It decodes params into a map: an array is a parse error, and then the id is lost.
        let answer = if request["params"].is_array() {
            r#""error":{"code":-32700,"message":"failed to parse request: json: cannot unmarshal array"},"id":null"#.to_owned()
        } else {
            let result = match method {
                "daemon.ping" => Ok(r#"{"pong":true,"version":"0.3.0"}"#.to_owned()),
                "daemon.status" => {
                    // Counted from the first of these calls.
                    let status = format!(
                        r#"{{"mesh_ip":"10.45.75.206","pubkey":"{KEY_A}","uptime":{uptime},"interface":"wg0","version":"0.3.0"}}"#
                    );
                    uptime += 1_000_000;
                    Ok(status)
                }
                "peers.count" => Ok(r#"{"active":2,"total":3,"dead":1}"#.to_owned()),
                "peers.list" => Ok(format!(r#"{{"peers":{peers}}}"#)),
                other => Err(format!("method not found: {other}")),
            };
            match result {
                Ok(result) => format!(r#""result":{result},"id":{}"#, request["id"]),
                Err(why) => {
                    format!(r#""error":{{"code":-32601,"message":"{why}"}},"id":{}"#, request["id"])
                }
            }
        };
        (&*stream).write_all(format!("{{\"jsonrpc\":\"2.0\",{answer}}}\n").as_bytes())?;
    }
    Ok(())
}

/// Puts a `wg` first in the path that prints this for handshakes and transfer.
fn with_wg(lan: &Lan, handshakes: &str) -> String {
    let script = format!(
        "#!/bin/sh\n[ \"$1 $2\" = \"show wg0\" ] || exit 1\ncase $3 in\nlatest-handshakes) printf '{handshakes}';;\n\
         transfer) printf '{KEY_B}\\t2048\\t4096\\n';;\n*) exit 1;;\nesac\n"
    );
    let directory = lan.scratch.path("bin");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("wg"), script).unwrap();
    fs::set_permissions(directory.join("wg"), fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", directory.display(), std::env::var("PATH").unwrap())
}

fn meshctl(lan: &Lan, arguments: &str, path: &str) -> Output {
    let mut command = lan.command(1, MESHCTL);
    command.args(arguments.split(' ')).env("WGMESH_SOCKET", lan.socket(1)).env("PATH", path);
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Two peers in an order that is random there, with a zone, a null and most keys missing.
fn peers() -> String {
    let now = jiff::Timestamp::now();
    let zoned = now.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(5)));
    let last_seen = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z");
    format!(
        r#"[{{"pubkey":"{KEY_C}","mesh_ip":"10.45.140.134","endpoint":"","last_seen":"","discovered_via":null}},
            {{"pubkey":"{KEY_B}","hostname":"node-b","mesh_ip":"10.45.15.238","endpoint":"192.0.2.9:51820","last_seen":"{last_seen}","discovered_via":["lan","dht"],"routable_networks":null,"latency_ms":0}}]"#
    )
    .replace('\n', "")
}

#[test]
fn each_command_works_as_far_as_a_go_daemon_tells_and_says_what_is_missing() {
    let lan = Lan::new(1);
    go_daemon(&lan, peers());
    let path = std::env::var("PATH").unwrap();
    let coarse = "this is a Go daemon: it does not tell of handshakes, traffic or reasons";

    let status = meshctl(&lan, "status", &path);
    let text = stdout(&status);
    assert!(stderr(&status).contains(coarse), "{}", stderr(&status));
    assert!(text.contains("mesh address  10.45.75.206\n"), "{text}");
    assert!(text.contains("2 heard, 1 not heard any more"), "{text}");
    assert!(!text.contains("uptime"), "its uptime counts from whoever asked first: {text}");

    let peers = meshctl(&lan, "peers -o wide", &path);
    let text = stdout(&peers);
    assert!(stderr(&peers).contains(coarse), "{}", stderr(&peers));
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{text}");
    assert_eq!(
        rows[1][..3],
        ["node-b", "10.45.15.238", "192.0.2.9:51820"],
        "sorted by key: {text}"
    );
    assert!(rows[1].contains(&"heard") && rows[1].contains(&"ago"), "by its zone: {text}");
    assert_eq!(rows[2][..3], ["-", "10.45.140.134", "-"], "{text}");
    let seen: Value =
        serde_json::from_str(&stdout(&meshctl(&lan, "peers -o json", &path))).unwrap();
    assert_eq!((&seen[0]["state"], &seen[0]["rx_bytes"]), (&"heard".into(), &Value::Null));

    for (arguments, expected) in [
        ("ping nobody", "no node of this mesh is called nobody: `meshctl peers` lists them"),
        ("ping 192.0.2.1", "no node of this mesh has the address 192.0.2.1"),
        ("ping node-b", "no ICMP socket to 10.45.15.238 on wg0"),
        ("bench node-b", "this is a Go daemon: bench needs `meshctl join` on both ends"),
        ("leave", "stop it with SIGTERM, which makes a Go daemon leave"),
    ] {
        let output = meshctl(&lan, arguments, &path);
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        assert!(stderr(&output).contains(expected), "{arguments}: {}", stderr(&output));
    }
    assert!(stdout(&meshctl(&lan, "peers count", &path)).contains("2 active, 1 dead, 3 in all"));

    let doctor = meshctl(&lan, "doctor -o json", &path);
    let findings: Vec<Value> = serde_json::from_slice(&doctor.stdout).unwrap();
    let of = |check: &str| findings.iter().find(|finding| finding["check"] == check).unwrap();
    assert_eq!(of("daemon")["verdict"], "ok");
    assert!(of("daemon")["seen"].as_str().unwrap().starts_with("0.3.0 (the Go daemon) answers"));
    assert_eq!(of("multicast")["verdict"], "warn", "this host has no default route: {findings:?}");
    assert_eq!(of("interface")["verdict"], "fail", "there is no wg0 here");
    assert_eq!(of("ports")["verdict"], "skip", "they follow from the secret");
}

#[test]
fn what_wg_shows_fills_the_gaps() {
    let lan = Lan::new(1);
    go_daemon(&lan, peers());
    let now = jiff::Timestamp::now().as_second();
    let path = with_wg(&lan, &format!("{KEY_B}\\t{}\\n", now - 30));
    let seen: Value =
        serde_json::from_str(&stdout(&meshctl(&lan, "peers -o json", &path))).unwrap();
    assert_eq!(seen[0]["state"], "up", "{seen}");
    assert_eq!((&seen[0]["rx_bytes"], &seen[0]["tx_bytes"]), (&2048.into(), &4096.into()));
    let age = seen[0]["handshake_age_ms"].as_u64().unwrap();
    assert!((29_000..40_000).contains(&age), "{age}");
    assert_eq!(seen[1]["state"], "never", "{seen}");
    assert!(seen[1]["why"].as_str().unwrap().contains("not on the WireGuard interface"), "{seen}");
}

#[test]
fn odd_lists_are_no_obstacle() {
    for (peers, expected) in
        [("null", 0), ("[]", 0), (r#"[{"pubkey":null,"hostname":"\u001b[2J"}]"#, 1)]
    {
        let lan = Lan::new(1);
        go_daemon(&lan, peers.to_owned());
        let path = std::env::var("PATH").unwrap();
        let text = stdout(&meshctl(&lan, "peers", &path));
        assert_eq!(text.lines().count(), 1 + expected, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        stdout(&meshctl(&lan, "status", &path));
    }
}
