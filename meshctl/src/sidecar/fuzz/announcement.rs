//! Target: what a member says, up to what the node would do for it.

use std::net::{IpAddr, SocketAddr};

use ipnet::Ipv4Net;
use meshctl_core::derive::MeshKeys;
use meshctl_core::envelope::{self, Kind};
use meshctl_core::key::PrivateKey;
use meshctl_core::mesh::{Effect, Event, Mesh, Now, Path, Settings, Trust};
use meshctl_core::secret::Secret;

use super::fuzz;

pub(super) const START: Now = Now { mono_ms: 86_400_000, unix: 1_800_000_000 };
/// A node forgets after so many messages, so that each input is found to blame.
pub(super) const MESSAGES_MAX: u64 = 200;

#[test]
fn no_message_makes_the_node_do_what_it_must_not() {
    let settings = settings();
    let fresh = || {
        let mut mesh = Mesh::new(settings.clone(), None, &[], START);
        let local = vec!["192.168.1.0/24".parse().unwrap()];
        mesh.handle(Event::LocalNetworks(local), START);
        mesh
    };
    let mut mesh = fresh();
    let mut messages = 0_u64;
    fuzz("announcement", 1_500, |input| {
        messages += 1;
        if messages.is_multiple_of(MESSAGES_MAX) {
            mesh = fresh();
        }
        let kinds =
            [Kind::Hello, Kind::Reply, Kind::Announce, Kind::Goodbye, Kind::Offer, Kind::Start];
        let kind = kinds[usize::try_from(messages % 6).unwrap()];
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&messages.to_be_bytes());
        let bytes = envelope::seal(&settings.keys.gossip_key, nonce, kind, input);
        let path = if messages.is_multiple_of(5) { Path::Lan } else { Path::Exchange };
        let now = Now { mono_ms: START.mono_ms + messages % MESSAGES_MAX * 150, ..START };
        let from = SocketAddr::from(([192, 0, 2, 2], 52_448));
        let effects = mesh.handle(Event::Datagram { path, from, bytes: &bytes }, now);
        assert!(effects.len() < 100, "{} effects of one message", effects.len());
        let shown: Vec<&str> = effects.iter().map(|effect| check(effect, &mesh)).collect();
        for peer in mesh.active_peers(now) {
            assert!(peer.hostname.len() <= 253, "{peer:?}");
            assert!(peer.hostname.bytes().all(|byte| (32..=126).contains(&byte)), "{peer:?}");
            assert!(peer.routes.len() <= 100);
        }
        format!("{path:?} {kind:?} {}", shown.join(" "))
    });
}

pub(super) fn settings() -> Settings {
    let keys = MeshKeys::derive(&Secret::parse("a secret of the tests only").unwrap());
    Settings {
        public_key: PrivateKey::from_random([1; 32]).public(),
        subnet: keys.default_subnet(),
        hostname: "node".to_owned(),
        listen_port: 51820,
        boot: 1,
        routes: Vec::new(),
        accept_routes: vec!["0.0.0.0/0".parse().unwrap()],
        lan: true,
        gossip: false,
        ipv6: None,
        no_ipv6: false,
        introducer: false,
        no_punching: false,
        force_relay: false,
        relays_ipv6: false,
        trust: Trust::default(),
        successor: None,
        keys,
    }
}

/// What holds of every effect, whatever was said.
pub(super) fn check(effect: &Effect, mesh: &Mesh) -> &'static str {
    let subnet = mesh.settings().subnet;
    match effect {
        Effect::Announce(plaintext) => {
            assert!(envelope::sealed_len(Kind::Announce, plaintext.len()) <= 1_200);
            "announce"
        }
        Effect::Send { to, kind, plaintext } => {
            assert!(envelope::sealed_len(*kind, plaintext.len()) <= 1_200);
            assert!(is_outside(to.ip(), mesh) || *kind == Kind::Reply, "{to}");
            kind.as_str()
        }
        Effect::SetPeer(peer) => {
            assert_ne!(peer.key, mesh.settings().public_key);
            assert!(subnet.is_host(peer.mesh_ip) && peer.mesh_ip != mesh.mesh_ip(), "{peer:?}");
            assert!(peer.endpoint.is_none_or(|to| is_outside(to.ip(), mesh) && to.port() != 0));
            "set"
        }
        Effect::MoveAddress(ip) => {
            assert!(subnet.is_host(*ip));
            "move"
        }
        Effect::Routes(routes) => {
            let local: Ipv4Net = "192.168.1.0/24".parse().unwrap();
            for (index, route) in routes.iter().enumerate() {
                let overlaps = |other: &Ipv4Net| route.contains(other) || other.contains(route);
                assert!(route.prefix_len() >= 8 && !overlaps(&local) && !overlaps(&subnet.net()));
                assert!(routes[index + 1..].iter().all(|other| other != route));
            }
            "routes"
        }
        Effect::RemovePeer(_) => "remove",
        Effect::Probe { .. } => "probe",
        Effect::PeersChanged => "changed",
        Effect::RevocationsChanged => "revoked",
        Effect::SecretRotated => "rotated",
        Effect::Report(report) => {
            assert!(!report.to_string().contains(char::is_control), "{report:?}");
            "report"
        }
    }
}

fn is_outside(ip: IpAddr, mesh: &Mesh) -> bool {
    let in_mesh = match ip {
        IpAddr::V4(ip) => mesh.settings().subnet.contains(ip) || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
    };
    !in_mesh && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast()
}
