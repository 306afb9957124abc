//! The mesh as one state machine: events in, effects out.
//!
//! ```text
//!  datagram ─> limiter ─> envelope ─> replay ─> hearing ─┐
//!  device ───────────────────────────────────────────────┼─> peer_table ─> SetPeer / RemovePeer
//!  tick ─> contacts, announces, lapses ──────────────────┤        │
//!  introducers' mentions ─> path, relay, rendezvous ─────┘        │
//!                                     speech <─── HELLO, REPLY, ANNOUNCE, GOODBYE
//! ```
//!
//! Safety: a live tunnel's endpoint is never replaced by what a message says, no endpoint lies
//! inside the mesh, and one mesh address is routed to one peer. Liveness: whoever announces, says
//! HELLO or shakes hands is a peer at once, and one is forgotten only when all three have ceased.

mod contacts;
mod counters;
mod device;
mod due;
mod effect;
mod event;
mod hearing;
mod hearsay;
mod introducer;
mod limiter;
mod membership;
mod mentions;
mod nat;
mod observed;
mod path;
mod peer;
mod peer_table;
mod relay;
mod rendezvous;
mod replay;
mod room;
mod rotation;
mod routes;
mod seen;
mod settings;
mod speech;
mod vitals;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::Ipv4Net;

pub use contacts::SeedView;
pub use counters::Counters;
pub use effect::{Effect, PeerConfig, Report};
pub use event::{DevicePeer, Event, Now, Path, Probe};
pub use membership::{KeptOut, Member, Refusal, Standing, Trust};
pub use nat::NatType;
pub use peer::Traffic;
pub use peer_table::PeerView;
pub use rotation::{Psk, RotationRefusal, Successor};
pub use routes::{Refused, RouteRefusal};
pub use seen::{ClashView, PeerDetail, PeerState};
pub use settings::Settings;
pub use vitals::PROBE_MAX_MS;

use crate::key::PublicKey;
use crate::state_file::CachedPeer;
use contacts::Contacts;
use introducer::Sessions;
use limiter::{Limiter, Muffle};
use membership::Membership;
use mentions::Mentions;
use observed::Observed;
use peer_table::PeerTable;
use rendezvous::Rendezvous;
use replay::Replay;
use rotation::Rotation;
use routes::Routes;
use vitals::ProbeBudget;

/// A handshake this young proves the tunnel.
pub const HANDSHAKE_LIVE_MS: u64 = 180_000;
/// Unheard for this long, a peer leaves list and device.
pub const ACTIVE_MAX_MS: u64 = 300_000;
/// Beyond this a peer's clock is worth a word; beyond 600 s it is not heard at all.
pub const PEER_CLOCK_WARN_SECS: u64 = 60;
const ANNOUNCE_EVERY_MS: u64 = 5_000;
const ANNOUNCE_JITTER_MS: u64 = 500;
/// Soon after the start an announce is repeated: the first one may meet a network not yet ready.
const FIRST_ANNOUNCES_MS: [u64; 3] = [200, 500, 1_500];
const RECONCILE_EVERY_MS: u64 = 1_000;
const HELLO_WHEN_SILENT_MS: u64 = 45_000;
const HELLO_EVERY_MS: u64 = 15_000;
const GOSSIP_EVERY_MS: u64 = 10_000;
/// A smaller key wins a contested address, but not for ever against one that cannot move.
const CLASH_PATIENCE_MS: u64 = 30_000;
const MOVE_EVERY_MS: u64 = 10_000;
const NONCE_MAX: u32 = 256;

/// The state of one node.
pub struct Mesh {
    settings: Settings,
    ip: Ipv4Addr,
    /// Whether the mesh IPv6 address is on the interface: it is announced only then.
    has_ipv6: bool,
    moved_at: Option<u64>,
    /// Unix seconds: what was sealed before may have been heard by an earlier run.
    started_unix: i64,
    /// Who contests our address although it should yield, since when.
    clash: Option<(PublicKey, u64)>,
    observed: Observed,
    nat_type: Option<NatType>,
    membership: Membership,
    secrets: Rotation,
    peers: PeerTable,
    contacts: Contacts,
    mentions: Mentions,
    rendezvous: Rendezvous,
    paths_at: u64,
    sessions: Sessions,
    replay: Replay,
    limiter: Limiter,
    /// Announces have a limiter of their own: who floods one path does not close the other.
    lan_limiter: Limiter,
    clock_reports: Muffle,
    counters: Counters,
    probes: ProbeBudget,
    routes: Routes,
    /// What was last asked to be routed; nothing has been before the first time.
    routed: Option<Vec<Ipv4Net>>,
    configured: BTreeMap<PublicKey, PeerConfig>,
    /// When what is wanted on the device is worked out again for time's sake alone.
    reconcile_at: u64,
    announce_at: u64,
    announces: u64,
    gossip_at: u64,
    gossips: usize,
    /// With which peer the next message goes on; an introducer's, for each address.
    rotations: BTreeMap<Option<SocketAddr>, usize>,
    left: bool,
}

impl Mesh {
    /// Begins with the address and the peers that an earlier run left, if it left any.
    pub fn new(
        settings: Settings,
        kept_ip: Option<Ipv4Addr>,
        cached: &[CachedPeer],
        now: Now,
    ) -> Self {
        let derived = || settings.subnet.address(&settings.public_key, &settings.keys.secret, 0);
        let mesh_ip = kept_ip.filter(|ip| settings.subnet.contains(*ip)).unwrap_or_else(derived);
        let mut mesh = Self {
            ip: mesh_ip,
            has_ipv6: false,
            moved_at: None,
            started_unix: now.unix,
            clash: None,
            observed: Observed::default(),
            nat_type: None,
            membership: Membership::new(settings.trust.clone()),
            secrets: Rotation::new(settings.successor.clone()),
            peers: PeerTable::new(settings.subnet),
            contacts: Contacts::default(),
            mentions: Mentions::default(),
            rendezvous: Rendezvous::default(),
            paths_at: 0,
            sessions: Sessions::default(),
            replay: Replay::default(),
            limiter: Limiter::default(),
            lan_limiter: Limiter::default(),
            clock_reports: Muffle::default(),
            counters: Counters::default(),
            probes: ProbeBudget::default(),
            routes: Routes::new(&settings.accept_routes),
            routed: None,
            configured: BTreeMap::new(),
            reconcile_at: now.mono_ms,
            announce_at: now.mono_ms,
            announces: 0,
            gossip_at: now.mono_ms + GOSSIP_EVERY_MS,
            gossips: 0,
            rotations: BTreeMap::new(),
            left: false,
            settings,
        };
        for peer in cached.iter().filter(|peer| peer.wg_pubkey != mesh.settings.public_key) {
            let control = peer.endpoint.map(|endpoint| mesh.control_of(endpoint.ip()));
            let standing = mesh.membership.of_cached(peer, now);
            let is_kept_out = mesh.membership.is_required() && !matches!(standing, Some(Ok(_)));
            if (is_kept_out || !mesh.peers.restore(peer, now))
                && let Some(control) = control
            {
                mesh.contacts.hear_of(peer.wg_pubkey, control, now);
            }
            if let Some(restored) = mesh.peers.get_mut(&peer.wg_pubkey) {
                restored.standing = standing;
            }
        }
        mesh
    }

    /// Takes one event in and says what is to be done.
    pub fn handle(&mut self, event: Event<'_>, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.left {
            return effects;
        }
        // Going through all peers for each event would cost a large mesh. Most messages and probes
        // change nothing on the device, and what time alone changes there may wait a second.
        let is_tick = matches!(event, Event::Tick);
        let is_routine = matches!(event, Event::Datagram { .. } | Event::Probed { .. });
        match event {
            Event::Tick => {}
            Event::Datagram { path, from, bytes } => {
                self.datagram(path, from, bytes, now, &mut effects);
            }
            Event::Device(found) => self.device(found, now, &mut effects),
            Event::NetworkChanged => self.announce_at = now.mono_ms,
            Event::Ipv6(is_there) => self.ipv6_is_there(is_there, now),
            Event::LocalNetworks(networks) => self.routes.set_local(networks),
            Event::Stun(answers) => self.stun_answered(&answers, now),
            Event::Seeds(addresses) => self.contacts.set_seeds(&addresses, now),
            Event::Probed { key, outcome } => self.peers.probed(&key, outcome, now),
            Event::Rotate(successor) => self.rotate(*successor, now, &mut effects),
            Event::Certificate(own) => self.set_own_certificate(*own, now),
            Event::Revoked(revocation) => self.revoke(*revocation, now, &mut effects),
            Event::Leave => {
                self.say_goodbye(now, &mut effects);
                self.left = true;
                return effects;
            }
        }
        if is_routine && !effects.contains(&Effect::PeersChanged) {
            self.speak_when_due(now, &mut effects);
            return effects;
        }
        self.lapse(now, &mut effects);
        self.find_paths(now, &mut effects);
        self.ask_introducers(now, &mut effects);
        self.punch(now, &mut effects);
        self.speak_when_due(now, &mut effects);
        if !is_tick || now.mono_ms >= self.reconcile_at || effects.contains(&Effect::PeersChanged) {
            self.reconcile(now, &mut effects);
            self.reconcile_at = now.mono_ms + RECONCILE_EVERY_MS;
        }
        self.probe_when_due(now, &mut effects);
        effects
    }

    pub fn mesh_ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// The mesh IPv6 address, when it is on the interface.
    pub fn mesh_ipv6(&self) -> Option<Ipv6Addr> {
        self.settings.ipv6.filter(|_| self.has_ipv6)
    }

    fn ipv6_is_there(&mut self, is_there: bool, now: Now) {
        if self.has_ipv6 != is_there {
            self.has_ipv6 = is_there;
            self.announce_at = now.mono_ms;
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The peers heard within five minutes, sorted by key.
    pub fn active_peers(&self, now: Now) -> Vec<PeerView> {
        self.peers.all().filter(|peer| peer.is_active(now)).map(PeerView::from).collect()
    }

    pub fn active_count(&self, now: Now) -> usize {
        self.peers.all().filter(|peer| peer.is_active(now)).count()
    }

    /// The networks behind peers that are used, sorted.
    pub fn accepted_routes(&self) -> Vec<Ipv4Net> {
        self.routes.all()
    }

    /// The known peers that give no sign of life, sorted by key.
    pub fn unheard_peers(&self, now: Now) -> Vec<PublicKey> {
        let gone =
            self.peers.all().filter(|peer| peer.vitals.is_unheard(now) || !peer.is_active(now));
        gone.map(|peer| peer.key).collect()
    }

    pub fn peer(&self, key: &PublicKey) -> Option<PeerView> {
        self.peers.get(key).map(PeerView::from)
    }

    pub fn peers_total(&self) -> usize {
        self.peers.all().count()
    }

    /// What the next run should begin with.
    pub fn cached_peers(&self) -> Vec<CachedPeer> {
        self.peers.cached()
    }

    /// Moves to another address after a clash; the mesh hears of it at once.
    fn move_away(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.moved_at.is_some_and(|at| now.mono_ms < at + MOVE_EVERY_MS) {
            return;
        }
        let secret = &self.settings.keys.secret;
        let candidates = (1..NONCE_MAX)
            .map(|nonce| self.settings.subnet.address(&self.settings.public_key, secret, nonce));
        let free = candidates
            .into_iter()
            .find(|ip| *ip != self.ip && !self.peers.is_taken(IpAddr::V4(*ip)));
        let Some(to) = free else {
            effects.push(Effect::Report(Report::NoFreeAddress { ip: self.ip }));
            return;
        };
        effects.push(Effect::Report(Report::Moved { from: self.ip, to }));
        self.ip = to;
        self.moved_at = Some(now.mono_ms);
        self.counters.moves += 1;
        self.clash = None;
        effects.push(Effect::MoveAddress(to));
        self.announce_at = now.mono_ms;
        let active: Vec<PublicKey> =
            self.peers.all().filter(|peer| peer.is_active(now)).map(|peer| peer.key).collect();
        for key in active {
            if let Some(control) = self.control_of_peer(&key) {
                let hello = self.hello(control, now);
                effects.push(hello);
            }
        }
    }

    fn control_of(&self, host: IpAddr) -> SocketAddr {
        SocketAddr::new(host, self.settings.keys.gossip_port)
    }

    /// Where a peer hears HELLO: beside its WireGuard endpoint, else through the tunnel. A Go node
    /// takes the mesh for our endpoint unless we name one.
    fn control_of_peer(&self, key: &PublicKey) -> Option<SocketAddr> {
        let peer = self.peers.get(key)?;
        let inside = peer.mesh_ip.filter(|_| peer.is_knit || self.observed.address().is_some());
        let outside = peer.endpoint_address().map(|endpoint| endpoint.ip());
        let host = match peer.path.relay {
            Some(_) => inside.or(outside),
            None => outside.or(inside),
        };
        Some(self.control_of(host?))
    }
}

#[cfg(test)]
mod tests;
