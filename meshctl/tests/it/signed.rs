//! Members that an authority signed, on real devices.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::{Daemon, Lan, MESHCTL, eventually};

/// A LAN with an authority, whose secret key lies beside.
struct Signed {
    lan: Lan,
    authority: String,
}

impl Signed {
    fn new(lan: Lan) -> Self {
        let mut made = Self { lan, authority: String::new() };
        let out = made.key_file();
        made.authority = text(&meshctl(&["authority", "init", "--out", &out]));
        made
    }

    fn key_file(&self) -> String {
        self.lan.scratch.path("authority.key").to_str().unwrap().to_owned()
    }

    fn certificate(&self, host: u8) -> PathBuf {
        self.lan.scratch.path(&format!("{host}.cert"))
    }

    fn sign(&self, host: u8, key: &str) {
        let (name, file) = (format!("member-{host}"), self.key_file());
        let arguments = ["--name", &name, "--expires", "1h", "--authority-key", &file];
        let output = meshctl(&[&["authority", "sign", key], &arguments[..]].concat());
        fs::write(self.certificate(host), text(&output)).unwrap();
    }

    /// Starts a member: its key is made by a first start, which ends again.
    async fn join(&self, host: u8, more: &[&str]) -> Daemon {
        let mut first = self.lan.join(host, &[]);
        first.mesh_ip().await;
        let key = first.client.status().await.unwrap().pubkey;
        first.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(first.ends());
        self.sign(host, &key);
        let certificate = self.certificate(host);
        let flags =
            ["--require-signed", &self.authority, "--certificate", certificate.to_str().unwrap()];
        self.lan.join(host, &[&flags, more].concat())
    }
}

fn meshctl(arguments: &[&str]) -> Output {
    let output = Command::new(MESHCTL).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "meshctl {arguments:?}: {error}");
    output
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_secret_alone_is_kept_out_until_signed_and_cut_when_revoked() {
    let mesh = Signed::new(Lan::new(3));
    let (one, two) = (mesh.join(1, &[]).await, mesh.join(2, &[]).await);
    let (first, second) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("members ping each other", || mesh.lan.pings(1, &second).then_some(()));

    // The third has the secret, and a certificate of nobody.
    let certificate = mesh.certificate(3);
    let mut three = mesh.lan.join(3, &[]);
    let third = three.mesh_ip().await;
    let key = three.client.status().await.unwrap().pubkey;
    let deadline = Instant::now() + Duration::from_secs(10);
    let kept_out = loop {
        let kept_out = one.client.kept_out().await.unwrap();
        if !kept_out.is_empty() {
            break kept_out;
        }
        assert!(Instant::now() < deadline, "not noticed: {}", one.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((kept_out[0].pubkey.as_str(), kept_out[0].signed.state.as_str()), (&*key, "no"));
    assert_eq!(one.client.peers().await.unwrap().len(), 1);
    assert!(!mesh.lan.pings(3, &first) && !mesh.lan.pings(1, &third));
    let socket = mesh.lan.socket(1);
    let shown = text(&meshctl(&["peers", "--mesh-socket", socket.to_str().unwrap()]));
    assert!(shown.contains("member-2 by ") && shown.contains("host3"), "{shown}");
    let status = text(&meshctl(&["status", "--mesh-socket", socket.to_str().unwrap()]));
    assert!(status.contains("(required)") && status.contains("member-1 until"), "{status}");

    // Signed, it comes in; a file that appears while it runs is enough.
    three.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(three.ends());
    mesh.sign(3, &key);
    let flags = ["--certificate", certificate.to_str().unwrap()];
    let three = mesh.lan.join(3, &flags);
    eventually("a signed host pings", || mesh.lan.pings(3, &first).then_some(()));
    eventually("also the other", || mesh.lan.pings(3, &second).then_some(()));

    // Revoked at the first, it is cut at the second too.
    let (file, socket) = (mesh.key_file(), socket.to_str().unwrap().to_owned());
    let start = Instant::now();
    let revoke = ["authority", "revoke", &key, "--authority-key", &file, "--mesh-socket", &socket];
    meshctl(&revoke);
    let is_cut = |from: u8| (!mesh.lan.pings(from, &third)).then_some(());
    eventually("cut at the first", || is_cut(1));
    eventually("cut at the second", || is_cut(2));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "took {took:?}");
    assert!(two.log().contains("revoked"), "{}", two.log());
    assert!(mesh.lan.pings(1, &second), "the others are as they were");
    drop(three);

    // What was revoked is known after a restart, and a new certificate counts again.
    drop(two);
    let deadline = Instant::now() + Duration::from_secs(3);
    let three = mesh.lan.join(3, &flags);
    three.mesh_ip().await;
    while Instant::now() < deadline && one.client.kept_out().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(one.client.kept_out().await.unwrap()[0].signed.state, "revoked");
    // Later than the revocation by a whole second.
    eventually("a second passes", || (start.elapsed() > Duration::from_secs(2)).then_some(()));
    mesh.sign(3, &key);
    eventually("signed anew, it pings", || mesh.lan.pings(3, &first).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_behind_symmetric_nats_are_relayed_by_an_introducer() {
    let mesh = Signed::new(Lan::behind_routers(2, 1, "masquerade fully-random"));
    let introducer = mesh.join(3, &["--no-lan-discovery", "--introducer"]).await;
    introducer.mesh_ip().await;
    // Nothing to wait for: neither end is ever heard by the other.
    let client = ["--no-lan-discovery", "--force-relay", "--seed", "203.0.113.3"];
    let (one, two) = (mesh.join(1, &client).await, mesh.join(2, &client).await);
    let (first, second) = (one.mesh_ip().await, two.mesh_ip().await);
    let deadline = Instant::now() + Duration::from_secs(25);
    while !(mesh.lan.pings(1, &second) && mesh.lan.pings(2, &first)) {
        assert!(Instant::now() < deadline, "not relayed: {:?}", one.client.peer_details().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let peers = one.client.peer_details().await.unwrap();
    let peer = peers.iter().find(|peer| peer.info.hostname == "host2").unwrap();
    assert!(peer.relay.is_some(), "{peer:?}");
    let socket = mesh.lan.socket(1);
    let shown = text(&meshctl(&["peers", "--mesh-socket", socket.to_str().unwrap()]));
    assert!(shown.contains("member-2 by "), "{shown}");
    assert_eq!(one.client.kept_out().await.unwrap(), []);

    // Whoever takes it out takes it from the one that only heard of it too.
    let key = two.client.status().await.unwrap().pubkey;
    let (file, socket) = (mesh.key_file(), mesh.lan.socket(3));
    let socket = socket.to_str().unwrap();
    meshctl(&["authority", "revoke", &key, "--authority-key", &file, "--mesh-socket", socket]);
    eventually("the revoked one is cut", || (!mesh.lan.pings(1, &second)).then_some(()));
}
