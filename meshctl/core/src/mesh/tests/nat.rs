//! Nodes behind NATs and introducers between them, on an imagined network with real rules: an
//! exchange that is blocked, tunnels that are blocked, and WireGuard's check of every sender.

mod introducers;
mod signed;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::message::rendezvous::{Offer, Start, StartExtension};

/// One-way packets of the underlay that do not arrive, by the nodes' indices.
type Blocked = BTreeSet<(usize, usize)>;

struct World {
    nodes: Vec<Node>,
    dead: BTreeSet<usize>,
    /// Neither messages nor handshakes pass between these two.
    blocked: Blocked,
    /// What each node's device has.
    devices: Vec<BTreeMap<PublicKey, PeerConfig>>,
    /// When two last shook hands, and what has come through since.
    handshakes: BTreeMap<(usize, usize), u64>,
    received: BTreeMap<(usize, usize), u64>,
    ms: u64,
    /// When the path of node 0 to node 1 changed.
    changes: Vec<u64>,
    sent: usize,
}

impl World {
    /// `introducers` come last; all others have them as seeds.
    fn new(clients: u8, introducers: u8) -> Self {
        let total = clients + introducers;
        Self::of((1..=total).map(|number| Node::new(number, None)).collect(), clients)
    }

    /// Of these nodes the first are clients, the rest introducers.
    fn of(mut nodes: Vec<Node>, clients: u8) -> Self {
        let clients = usize::from(clients);
        let seeds: Vec<SocketAddr> = nodes[clients..].iter().map(Node::control).collect();
        for (index, node) in nodes.iter_mut().enumerate() {
            node.mesh.settings.lan = false;
            node.mesh.settings.introducer = index >= clients;
            node.mesh.handle(Event::Seeds(seeds.clone()), START);
        }
        let count = nodes.len();
        Self {
            nodes,
            dead: BTreeSet::new(),
            blocked: BTreeSet::new(),
            devices: vec![BTreeMap::new(); count],
            handshakes: BTreeMap::new(),
            received: BTreeMap::new(),
            ms: 0,
            changes: Vec::new(),
            sent: 0,
        }
    }

    fn block(&mut self, one: usize, other: usize) {
        self.blocked.extend([(one, other), (other, one)]);
    }

    fn is_open(&self, from: usize, to: usize) -> bool {
        let are_alive = !self.dead.contains(&from) && !self.dead.contains(&to);
        are_alive && !self.blocked.contains(&(from, to))
    }

    fn now(&self) -> Now {
        later(self.ms)
    }

    fn index_of(&self, key: &PublicKey) -> usize {
        self.nodes.iter().position(|node| node.key() == *key).unwrap()
    }

    fn tunnel_stands(&self, one: usize, other: usize) -> bool {
        let pair = (one.min(other), one.max(other));
        self.is_open(one, other)
            && self.handshakes.get(&pair).is_some_and(|at| self.ms < at + 180_000)
    }

    fn entry(&self, at: usize, ip: IpAddr) -> Option<usize> {
        let has = |config: &&PeerConfig| config.allowed_ips.contains(&IpNet::from(ip));
        let config = self.devices[at].values().find(has)?;
        Some(self.index_of(&config.key))
    }

    /// The node that a packet through the tunnels ends at, with WireGuard's checks on the way.
    fn carried(&mut self, from: usize, to: IpAddr) -> Option<usize> {
        let source = IpAddr::V4(self.nodes[from].mesh.mesh_ip());
        let mut at = from;
        for hop in 0..3 {
            if IpAddr::V4(self.nodes[at].mesh.mesh_ip()) == to {
                return Some(at);
            }
            if hop > 0 && !self.nodes[at].mesh.settings.introducer {
                return None;
            }
            let next = self.entry(at, to)?;
            if !self.tunnel_stands(at, next) || self.entry(next, source) != Some(at) {
                return None;
            }
            *self.received.entry((next, at)).or_default() += 100;
            at = next;
        }
        None
    }

    fn perform(&mut self, index: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, kind, plaintext } => self.send(index, to, kind, &plaintext),
                Effect::SetPeer(config) => {
                    for other in self.devices[index].values_mut() {
                        other.allowed_ips.retain(|net| !config.allowed_ips.contains(net));
                    }
                    self.devices[index].insert(config.key, config);
                }
                Effect::RemovePeer(key) => drop(self.devices[index].remove(&key)),
                Effect::Probe { key, ip } => {
                    let there = self.carried(index, ip.into());
                    let back = IpAddr::V4(self.nodes[index].mesh.mesh_ip());
                    let answered = there.and_then(|there| self.carried(there, back));
                    let outcome = match answered {
                        Some(_) => Probe::Pong { micros: 1 },
                        None => Probe::Silence,
                    };
                    let now = self.now();
                    let effects =
                        self.nodes[index].mesh.handle(Event::Probed { key, outcome }, now);
                    self.perform(index, effects);
                }
                Effect::Report(Report::Relayed { key, .. } | Report::Direct { key, .. })
                    if index == 0 && key == self.nodes[1].key() =>
                {
                    self.changes.push(self.ms / 1000);
                }
                Effect::Announce(_)
                | Effect::Routes(_)
                | Effect::MoveAddress(_)
                | Effect::PeersChanged
                | Effect::RevocationsChanged
                | Effect::SecretRotated
                | Effect::Report(_) => {}
            }
        }
    }

    fn send(&mut self, from: usize, to: SocketAddr, kind: Kind, plaintext: &[u8]) {
        self.sent += 1;
        let bytes = self.nodes[from].seal(kind, plaintext);
        let inside = self.nodes[from].mesh.settings.subnet.net().contains(&match to.ip() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => return,
        });
        let (reached, source) = if inside {
            (self.carried(from, to.ip()), IpAddr::V4(self.nodes[from].mesh.mesh_ip()))
        } else {
            let there = self.nodes.iter().position(|node| node.control() == to);
            (there.filter(|there| self.is_open(from, *there)), self.nodes[from].ip)
        };
        if let Some(reached) = reached {
            let now = self.now();
            let source = SocketAddr::new(source, to.port());
            let effects = self.nodes[reached].hear(Path::Exchange, source, &bytes, now);
            self.perform(reached, effects);
        }
    }

    /// Both devices of a pair try, each five seconds, and keep a tunnel that stands alive.
    fn shake_hands(&mut self) {
        for one in 0..self.nodes.len() {
            for other in one + 1..self.nodes.len() {
                let tries = |at: usize, of: usize| {
                    let config = self.devices[at].get(&self.nodes[of].key());
                    config.is_some_and(|config| config.endpoint.is_some())
                };
                let open = self.is_open(one, other) && self.is_open(other, one);
                if open && tries(one, other) && tries(other, one) {
                    let last = self.handshakes.get(&(one, other)).copied();
                    if last.is_none_or(|at| self.ms >= at + 120_000) {
                        self.handshakes.insert((one, other), self.ms);
                    }
                    if self.ms.is_multiple_of(25_000) {
                        *self.received.entry((one, other)).or_default() += 32;
                        *self.received.entry((other, one)).or_default() += 32;
                    }
                }
            }
        }
    }

    fn live(&mut self, secs: u64) {
        let until = self.ms + secs * 1000;
        while self.ms < until {
            self.ms += 100;
            if self.ms.is_multiple_of(1000) {
                self.shake_hands();
            }
            for index in 0..self.nodes.len() {
                if self.dead.contains(&index) {
                    continue;
                }
                let now = self.now();
                let mut effects = self.nodes[index].mesh.handle(Event::Tick, now);
                if self.ms.is_multiple_of(1000) {
                    let seen = self.seen(index);
                    effects.extend(self.nodes[index].mesh.handle(Event::Device(&seen), now));
                }
                self.perform(index, effects);
            }
        }
    }

    fn seen(&self, index: usize) -> Vec<DevicePeer> {
        let seen = |config: &PeerConfig| {
            let other = self.index_of(&config.key);
            let pair = (index.min(other), index.max(other));
            DevicePeer {
                key: config.key,
                endpoint: config.endpoint,
                allowed_ips: config.allowed_ips.clone(),
                handshake_age_ms: self.handshakes.get(&pair).map(|at| self.ms - at),
                rx_bytes: self.received.get(&(index, other)).copied().unwrap_or_default(),
                tx_bytes: 0,
            }
        };
        self.devices[index].values().map(seen).collect()
    }

    fn pings(&mut self, from: usize, to: usize) -> bool {
        let (there, back) =
            (self.nodes[to].mesh.mesh_ip().into(), self.nodes[from].mesh.mesh_ip().into());
        self.carried(from, there) == Some(to) && self.carried(to, back) == Some(from)
    }

    fn relay_of(&self, at: usize, to: usize) -> Option<usize> {
        let relay = self.nodes[at].mesh.peer(&self.nodes[to].key())?.relay?;
        Some(self.index_of(&relay))
    }
}

#[test]
fn two_that_cannot_meet_are_relayed_and_stay_so() {
    let mut world = World::new(2, 1);
    world.block(0, 1);
    world.live(15);
    assert_eq!((world.relay_of(0, 1), world.relay_of(1, 0)), (Some(2), Some(2)));
    assert!(world.pings(0, 1) && world.pings(1, 0));
    world.live(900);
    assert!(world.pings(0, 1), "after a quarter of an hour");
    assert_eq!(world.changes.len(), 1, "{:?}", world.changes);
    let now = world.now();
    for (at, other) in [(0, 1), (1, 0)] {
        let key = world.nodes[other].key();
        let mesh = &world.nodes[at].mesh;
        assert_eq!(mesh.unheard_peers(now), []);
        let view = mesh.peer(&key).unwrap();
        assert_eq!(view.hostname, format!("node-{}", other + 1));
        assert!(view.latency_ms.is_some(), "the probe goes through the relay");
        let own_entry = &world.devices[at][&key];
        assert!(
            own_entry.allowed_ips.is_empty() && own_entry.endpoint.is_some(),
            "it goes on trying"
        );
    }
}

#[test]
fn a_direct_path_that_opens_is_taken_and_kept() {
    let mut world = World::new(2, 1);
    world.block(0, 1);
    world.live(60);
    assert!(world.relay_of(0, 1).is_some());
    world.blocked.clear();
    let opened = world.ms / 1000;
    world.live(10);
    assert_eq!((world.relay_of(0, 1), world.relay_of(1, 0)), (None, None));
    assert!(world.pings(0, 1) && world.pings(1, 0));
    world.live(600);
    assert!(world.pings(0, 1));
    assert!(world.changes.len() == 2 && world.changes[1] <= opened + 5, "{:?}", world.changes);
}

#[test]
fn a_tunnel_that_breaks_is_relayed_within_a_minute() {
    let mut world = World::new(2, 1);
    world.live(60);
    assert_eq!((world.relay_of(0, 1), world.changes.len()), (None, 0));
    assert!(world.pings(0, 1));
    world.block(0, 1);
    let broke = world.ms / 1000;
    world.live(60);
    assert!(world.pings(0, 1) && world.pings(1, 0), "{:?}", world.changes);
    assert!(world.changes[0] <= broke + 70, "{:?}", world.changes);
    // It comes and goes: each return costs more patience than the one before.
    for _ in 0..10 {
        world.blocked.clear();
        world.live(60);
        world.block(0, 1);
        world.live(60);
    }
    assert!(world.changes.len() <= 10, "{:?}", world.changes);
}

#[test]
fn force_relay_of_one_end_is_followed_by_the_other() {
    let mut world = World::new(2, 1);
    world.nodes[0].mesh.settings.force_relay = true;
    world.live(15);
    assert_eq!((world.relay_of(0, 1), world.relay_of(1, 0)), (Some(2), Some(2)));
    assert!(world.pings(0, 1) && world.pings(1, 0));
    world.live(300);
    assert_eq!(world.changes.len(), 1, "{:?}", world.changes);
}

/// Every member has the secret and knows all keys: only a tunnel says who wants to be relayed.
#[test]
fn nobody_has_others_relayed_by_a_word_in_their_name() {
    let mut world = World::new(3, 1);
    world.live(60);
    assert!(world.pings(0, 1));
    let keys: Vec<PublicKey> = world.nodes.iter().map(Node::key).collect();
    let (sender, unix) = (world.nodes[2].control(), world.now().unix);
    let wish = Offer::new(keys[1], keys[0], Some(true), unix);
    let order = Start::new(
        (keys[0], keys[1], keys[3]),
        Vec::new(),
        (unix, unix * 1000),
        Some(StartExtension { peer: None, relay: Some(true) }),
    );
    let introducer = world.nodes[3].control();
    for (to, from, kind, plaintext) in [
        (3, sender, Kind::Offer, serde_json::to_vec(&wish).unwrap()),
        // The address of a sender outside the tunnel is anybody's.
        (0, introducer, Kind::Start, serde_json::to_vec(&order).unwrap()),
    ] {
        let bytes = world.nodes[2].seal(kind, &plaintext);
        let now = world.now();
        let effects = world.nodes[to].hear(Path::Exchange, from, &bytes, now);
        world.perform(to, effects);
        world.live(3);
        assert_eq!(world.relay_of(0, 1), None, "{kind:?}");
        assert!(world.pings(0, 1), "{kind:?}");
    }
}

#[test]
fn a_hundred_pairs_out_of_reach_cost_a_bounded_number_of_messages() {
    let mut world = World::new(15, 1);
    for one in 0..15 {
        for other in one + 1..15 {
            world.block(one, other);
        }
    }
    world.live(60);
    let lost = (0..15).flat_map(|one| (one + 1..15).map(move |other| (one, other)));
    let lost: Vec<_> = lost.filter(|(one, other)| world.relay_of(*one, *other).is_none()).collect();
    assert!(lost.is_empty(), "not relayed after a minute: {lost:?}");
    let before = world.sent;
    world.live(60);
    let each = (world.sent - before) / 16 / 60;
    assert!(each <= 12, "{each} datagrams a second from each node");
}

#[test]
fn a_route_behind_a_relayed_peer_goes_the_peers_way() {
    let mut world = World::new(2, 1);
    let net: IpNet = "10.99.2.0/24".parse().unwrap();
    for index in [0, 2] {
        let node = &mut world.nodes[index];
        node.mesh.routes = Routes::new(&["10.0.0.0/8".parse().unwrap()]);
        node.mesh.handle(Event::LocalNetworks(Vec::new()), START);
    }
    world.nodes[1].mesh.settings.routes = vec![net];
    world.block(0, 1);
    world.live(30);
    let keys: Vec<PublicKey> = world.nodes.iter().map(Node::key).collect();
    let leads = |world: &World, at: usize, to: usize| {
        world.devices[at][&keys[to]].allowed_ips.contains(&net)
    };
    assert_eq!(world.relay_of(0, 1), Some(2));
    assert!(leads(&world, 0, 2) && !leads(&world, 0, 1), "{:?}", world.devices[0]);
    assert!(leads(&world, 2, 1), "the introducer accepts it too, and passes it on");
    world.blocked.clear();
    world.live(30);
    assert_eq!(world.relay_of(0, 1), None);
    assert!(leads(&world, 0, 1) && !leads(&world, 0, 2), "{:?}", world.devices[0]);
}
