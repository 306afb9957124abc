//! A server for tests, whose actor knows one peer.

use meshctl_core::key::PublicKey;
use meshctl_core::mesh::PeerView;

use super::*;

pub(crate) const KEY: &str = "NYBy1jZYgNGu6jKa35EhODhR7SGijjt16WXQ0s0WYlQ=";

pub(crate) fn status() -> MeshStatus {
    MeshStatus {
        mesh_ip: "10.45.75.206".into(),
        pubkey: "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=".into(),
        uptime: 300_000_000_000,
        interface: "wg0".into(),
        version: view::VERSION.into(),
        engine: Some("userspace".into()),
        hostname: Some("node-a".into()),
        unheard: Some(vec!["key".into()]),
        membership: None,
        rotation: None,
    }
}

fn peer() -> PeerInfo {
    view::peer_info(&PeerView {
        key: KEY.parse::<PublicKey>().unwrap(),
        hostname: "<b&>".into(),
        mesh_ip: Some("10.45.15.238".parse().unwrap()),
        mesh_ipv6: None,
        endpoint: Some("[2001:db8::1]:51820".parse().unwrap()),
        introducer: false,
        nat_type: None,
        relay: None,
        last_seen_unix: 1_800_000_000,
        discovered_via: vec!["lan", "dht"],
        routes: vec!["10.99.2.0/24".parse().unwrap()],
        latency_ms: Some(0),
        standing: None,
    })
}

/// A server whose actor knows one peer.
pub(crate) fn server() -> Server {
    let (queries, mut queue) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(query) = queue.recv().await {
            match query {
                Query::Status(to) => drop(to.send(status())),
                Query::Peers(to) => drop(to.send(vec![peer()])),
                Query::Peer(key, to) => drop(to.send((key == KEY).then(peer))),
                Query::Detail(to) => {
                    drop(to.send(MeshDetail { status: status(), ..MeshDetail::default() }));
                }
                Query::PeerDetails(to) => {
                    drop(to.send(vec![MeshPeer { info: peer(), ..MeshPeer::default() }]));
                }
                Query::Endpoint(_, to) => drop(to.send(None)),
                Query::Metrics(to) => drop(to.send(String::new())),
                Query::KeptOut(to) => drop(to.send(Vec::new())),
                Query::Rotate { to, .. } => drop(to.send(Err("not here".to_owned()))),
                Query::Revoke(_, to) => drop(to.send(false)),
                Query::Count(to) => {
                    let _ = to.send(view::peer_count(1, 3));
                }
            }
        }
    });
    let (_, statuses) = watch::channel(status());
    Server { queries, statuses, leave: CancellationToken::new() }
}
