//! A few nodes on one imagined network, driven by hand.

mod address;
mod discovery;
mod endpoint;
mod hostile;
mod ipv6;
mod nat;
mod punching;
mod restart;
mod rotation;
mod seen;
mod signed;
mod silence;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use super::*;
use crate::derive::{MeshKeys, MeshSubnet};
use crate::envelope::{self, Kind};
use crate::key::PrivateKey;
use crate::secret::Secret;
use crate::state_file::CachedPeer;

const START: Now = Now { mono_ms: 86_400_000, unix: 1_800_000_000 };

fn later(ms: u64) -> Now {
    Now { mono_ms: START.mono_ms + ms, unix: START.unix + i64::try_from(ms / 1000).unwrap() }
}

/// A node with its underlay address.
struct Node {
    mesh: Mesh,
    ip: IpAddr,
    nonces: u64,
}

impl Node {
    fn new(number: u8, subnet: Option<&str>) -> Self {
        Self::with_cache(number, subnet, &[])
    }

    fn with_cache(number: u8, subnet: Option<&str>, cached: &[CachedPeer]) -> Self {
        let keys = MeshKeys::derive(&Secret::parse("a secret of the tests only").unwrap());
        let subnet = match subnet {
            Some(net) => MeshSubnet::custom(net.parse().unwrap()).unwrap(),
            None => keys.default_subnet(),
        };
        let settings = Settings {
            public_key: key(number),
            subnet,
            hostname: format!("node-{number}"),
            listen_port: 51820,
            boot: 1,
            routes: Vec::new(),
            accept_routes: Vec::new(),
            lan: true,
            gossip: false,
            ipv6: None,
            no_ipv6: false,
            introducer: false,
            no_punching: false,
            force_relay: false,
            trust: Trust::default(),
            successor: None,
            relays_ipv6: false,
            keys,
        };
        let ip = Ipv4Addr::new(192, 0, 2, number);
        Self { mesh: Mesh::new(settings, None, cached, START), ip: ip.into(), nonces: 0 }
    }

    fn key(&self) -> PublicKey {
        self.mesh.settings.public_key
    }

    fn control(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.mesh.settings.keys.gossip_port)
    }

    fn seal(&mut self, kind: Kind, plaintext: &[u8]) -> Vec<u8> {
        self.nonces += 1;
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.key().to_bytes()[..4]);
        nonce[4..].copy_from_slice(&self.nonces.to_be_bytes());
        envelope::seal(&self.mesh.settings.keys.gossip_key, nonce, kind, plaintext)
    }

    fn announce(&mut self, now: Now) -> Vec<u8> {
        let Effect::Announce(plaintext) = self.mesh.announce(now) else { panic!() };
        self.seal(Kind::Announce, &plaintext)
    }

    fn hear(&mut self, path: Path, from: SocketAddr, bytes: &[u8], now: Now) -> Vec<Effect> {
        self.mesh.handle(Event::Datagram { path, from, bytes }, now)
    }

    fn names(&self, now: Now) -> Vec<String> {
        self.mesh.active_peers(now).into_iter().map(|peer| peer.hostname).collect()
    }

    fn configured(&self) -> Vec<(PublicKey, Option<SocketAddr>)> {
        self.mesh.configured.values().map(|peer| (peer.key, peer.endpoint)).collect()
    }
}

fn key(number: u8) -> PublicKey {
    PrivateKey::from_random([number; 32]).public()
}

/// Delivers what nodes send each other until nobody has anything to say at `now`.
fn settle(nodes: &mut [Node], now: Now, lan: bool) {
    let mut queue: Vec<(usize, Effect)> = Vec::new();
    for (index, node) in nodes.iter_mut().enumerate() {
        queue.extend(node.mesh.handle(Event::Tick, now).into_iter().map(|effect| (index, effect)));
    }
    for _ in 0..10_000 {
        let Some((sender, effect)) = queue.pop() else { return };
        let (path, to, kind, plaintext) = match effect {
            Effect::Announce(plaintext) => (Path::Lan, None, Kind::Announce, plaintext),
            Effect::Send { to, kind, plaintext } => (Path::Exchange, Some(to), kind, plaintext),
            Effect::SetPeer(_)
            | Effect::RemovePeer(_)
            | Effect::MoveAddress(_)
            | Effect::Probe { .. }
            | Effect::Routes(_)
            | Effect::PeersChanged
            | Effect::RevocationsChanged
            | Effect::SecretRotated
            | Effect::Report(_) => continue,
        };
        let from = nodes[sender].control();
        let bytes = nodes[sender].seal(kind, &plaintext);
        for (index, node) in nodes.iter_mut().enumerate() {
            let reached = match to {
                None => lan,
                Some(to) => to == node.control(),
            };
            if reached {
                let effects = node.hear(path, from, &bytes, now);
                queue.extend(effects.into_iter().map(|effect| (index, effect)));
            }
        }
    }
    panic!("the nodes never stop talking");
}

fn device_peer(other: &Node, age_ms: Option<u64>) -> DevicePeer {
    DevicePeer {
        key: other.key(),
        endpoint: Some(SocketAddr::new(other.ip, 51820)),
        allowed_ips: vec![ipnet::IpNet::from(IpAddr::V4(other.mesh.mesh_ip()))],
        handshake_age_ms: age_ms,
        rx_bytes: 0,
        tx_bytes: 0,
    }
}
