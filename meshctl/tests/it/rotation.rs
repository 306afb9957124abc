//! The secret changes under running meshes, and no packet is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Output, Stdio};

use crate::support::{Daemon, Lan, MESHCTL, eventually};

/// 20 ms apart.
const PINGS: &str = "150";

fn meshctl(arguments: &[&str]) -> Output {
    let output = Command::new(MESHCTL).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "meshctl {arguments:?}: {error}");
    output
}

/// Makes the secret that follows that of a LAN; returns its file.
fn successor(lan: &Lan, name: &str, of: &str) -> String {
    let secret = meshctl(&["init", "--successor-of", of]).stdout;
    let path = lan.scratch.path(name);
    fs::write(&path, secret).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn rotate(lan: &Lan, host: u8, file: &str, grace: &str) {
    let socket = lan.socket(host);
    let socket = socket.to_str().unwrap();
    meshctl(&["rotate", "--secret-file", file, "--grace", grace, "--mesh-socket", socket]);
}

fn ping_flood(lan: &Lan, from: u8, to: &str) -> Child {
    let mut ping = lan.command(from, "ping");
    let ping = ping.args(["-n", "-q", "-i", "0.02", "-c", PINGS, "-W", "1", to]);
    ping.stdout(Stdio::piped()).spawn().unwrap()
}

fn assert_lossless(flood: Child) {
    let text = String::from_utf8(flood.wait_with_output().unwrap().stdout).unwrap();
    assert!(text.contains(&format!("{PINGS} packets transmitted, {PINGS} received")), "{text}");
}

async fn behind(daemon: &Daemon) -> Option<Vec<String>> {
    let mut behind = daemon.client.status().await.unwrap().rotation?.behind;
    behind.sort();
    Some(behind)
}

async fn until(what: &str, daemon: &Daemon, wanted: Option<Vec<String>>) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let found = behind(daemon).await;
        if found == wanted {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{what}: {found:?}\n{}", daemon.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hosts_change_their_secret_one_by_one_without_losing_a_packet() {
    let lan = Lan::new(4);
    let hosts = [lan.join(1, &[]), lan.join(2, &[]), lan.join(3, &[])];
    let mut addresses = Vec::new();
    for host in &hosts {
        addresses.push(host.mesh_ip().await);
    }
    for (from, to) in [(1, 1), (1, 2), (2, 2)] {
        eventually("a ping", || lan.pings(from, &addresses[to]).then_some(()));
    }
    let old = lan.secret_file().to_str().unwrap().to_owned();
    let new = successor(&lan, "new", &old);
    let floods: Vec<Child> = [(1, 1), (1, 2), (2, 2), (3, 0)]
        .into_iter()
        .map(|(from, to)| ping_flood(&lan, from, &addresses[to]))
        .collect();
    rotate(&lan, 1, &new, "5s");
    until("the others are behind", &hosts[0], Some(vec!["host2".into(), "host3".into()])).await;
    rotate(&lan, 2, &new, "5s");
    until("the third is behind", &hosts[1], Some(vec!["host3".into()])).await;
    rotate(&lan, 3, &new, "5s");
    for host in &hosts {
        until("nobody is behind", host, Some(Vec::new())).await;
    }
    for flood in floods {
        assert_lossless(flood);
    }

    // One that comes later has only the new secret, and lands in the same mesh.
    let four = lan.join(4, &["--secret-file", &new]);
    let fourth = four.mesh_ip().await;
    for (from, host) in (1..).zip(&hosts) {
        eventually("the newcomer is pinged", || lan.pings(from, &fourth).then_some(()));
        until("the old secret is refused", host, None).await;
    }
    // Sessions begun before and after: all stands, and a new handshake is by the new key.
    let floods: Vec<Child> = [(1, 1), (2, 2)]
        .into_iter()
        .map(|(from, to)| ping_flood(&lan, from, &addresses[to]))
        .collect();
    for flood in floods {
        assert_lossless(flood);
    }
    let [one, two, three] = hosts;
    drop((two, three));
    // A restart by the old file goes on with what followed it; a fresh one by it is a stranger.
    one.kill();
    let one = lan.join(1, &[]);
    assert_eq!(one.mesh_ip().await, addresses[0]);
    eventually("the restarted host pings", || lan.pings(1, &fourth).then_some(()));
    assert!(one.log().contains("not accepted any more"), "{}", one.log());
    let state = fs::metadata(lan.state_dir(1).join("wg0-secrets.json")).unwrap();
    assert_eq!(state.permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_change_their_secret_from_first_to_last_without_losing_a_packet() {
    let lan = Lan::new(2);
    let (one, two) = (lan.join(1, &[]), lan.join(2, &[]));
    let (first, second) = (one.mesh_ip().await, two.mesh_ip().await);
    for (from, to) in [(1, &second), (2, &first)] {
        eventually("a ping", || lan.pings(from, to).then_some(()));
    }
    let new = successor(&lan, "new", lan.secret_file().to_str().unwrap());
    let mut floods = [ping_flood(&lan, 1, &second), ping_flood(&lan, 2, &first)];
    for host in [1, 2] {
        rotate(&lan, host, &new, "5s");
    }
    until("both have it", &one, Some(Vec::new())).await;
    until("both have it", &two, Some(Vec::new())).await;
    for flood in &mut floods {
        assert_eq!(flood.try_wait().unwrap(), None, "the flood was over before the change was");
    }
    for flood in floods {
        assert_lossless(flood);
    }
    // And the end of the grace, with nothing but the new secret after it.
    let floods = [ping_flood(&lan, 1, &second), ping_flood(&lan, 2, &first)];
    until("the old secret is refused", &one, None).await;
    until("the old secret is refused", &two, None).await;
    for flood in floods {
        assert_lossless(flood);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_that_share_a_seed_change_by_a_restart_and_a_command() {
    let lan = Lan::new(2);
    let seeded = ["--no-lan-discovery", "--seed", "192.168.77.1"];
    let (one, two) = (lan.join(1, &seeded), lan.join(2, &seeded));
    let (first, second) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("a ping", || lan.pings(1, &second).then_some(()));
    let old = lan.secret_file().to_str().unwrap().to_owned();
    let new = successor(&lan, "new", &old);
    rotate(&lan, 1, &new, "1h");
    until("the second is behind", &one, Some(vec!["host2".into()])).await;
    let mut flood = ping_flood(&lan, 1, &second);
    flood.kill().unwrap();
    flood.wait().unwrap();
    two.kill();
    let two = lan.join(2, &[&seeded[..], &["--secret-file", &new]].concat());
    assert_eq!(two.mesh_ip().await, second);
    eventually("the restarted host pings", || lan.pings(2, &first).then_some(()));
    until("both have it", &one, Some(Vec::new())).await;
    until("both have it", &two, Some(Vec::new())).await;

    let stray = lan.scratch.path("stray");
    fs::write(&stray, meshctl(&["init"]).stdout).unwrap();
    let socket = lan.socket(1);
    let refused = Command::new(MESHCTL)
        .args(["rotate", "--secret-file", stray.to_str().unwrap(), "--mesh-socket"])
        .arg(socket)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && error.contains("init --successor-of"), "{error}");
}
