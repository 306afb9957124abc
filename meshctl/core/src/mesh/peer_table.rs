//! All peers, and which of them belong on the device.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::effect::PeerConfig;
use super::event::{DevicePeer, Now, Probe};
use super::membership::Standing;
use super::peer::{Peer, Traffic, Via};
use super::rotation::Psk;
use super::{ACTIVE_MAX_MS, HELLO_EVERY_MS, HELLO_WHEN_SILENT_MS, NatType};
use crate::derive::MeshSubnet;
use crate::key::PublicKey;
use crate::state_file::CachedPeer;

const PEERS_MAX: usize = 1000;
const FORGET_MS: u64 = 600_000;
/// Who said goodbye has this long to contradict it.
const GOODBYE_PATIENCE_MS: u64 = 2_000;
/// One that leaves still answers while it ends; later its tunnel is gone.
const ENDING_MS: u64 = 700;
const ASK_LEAVING_EVERY_MS: u64 = 500;
const CACHE_AGE_MAX_SECS: i64 = 24 * 3600;

/// A peer as the socket shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    pub key: PublicKey,
    pub hostname: String,
    pub mesh_ip: Option<IpAddr>,
    pub mesh_ipv6: Option<Ipv6Addr>,
    pub endpoint: Option<SocketAddr>,
    /// Whether it introduces and relays.
    pub introducer: bool,
    pub nat_type: Option<NatType>,
    /// Through which introducer it is reached; directly when none.
    pub relay: Option<PublicKey>,
    pub last_seen_unix: i64,
    pub discovered_via: Vec<&'static str>,
    pub routes: Vec<IpNet>,
    pub latency_ms: Option<u64>,
    /// What the authorities say of it; `None` when this node knows none.
    pub standing: Option<Standing>,
}

impl From<&Peer> for PeerView {
    fn from(peer: &Peer) -> Self {
        Self {
            key: peer.key,
            hostname: peer.hostname.clone(),
            mesh_ip: peer.mesh_ip,
            mesh_ipv6: peer.mesh_ipv6,
            endpoint: peer.endpoint_address(),
            introducer: peer.introducer,
            nat_type: peer.nat_type,
            relay: peer.path.relay,
            last_seen_unix: peer.heard_unix,
            discovered_via: peer.via.iter().map(|via| via.as_str()).collect(),
            routes: peer.routes.clone(),
            latency_ms: peer.rtt_us.map(|micros| micros / 1000),
            standing: peer.standing.clone(),
        }
    }
}

pub(super) struct PeerTable {
    subnet: MeshSubnet,
    peers: BTreeMap<PublicKey, Peer>,
}

impl PeerTable {
    pub(super) fn new(subnet: MeshSubnet) -> Self {
        Self { subnet, peers: BTreeMap::new() }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    pub(super) fn get(&self, key: &PublicKey) -> Option<&Peer> {
        self.peers.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &PublicKey) -> Option<&mut Peer> {
        self.peers.get_mut(key)
    }

    /// The entry of a peer that speaks for itself. A full table loses whoever proved least: names
    /// cost a member nothing, a handshake needs a real node. `None` when all are live.
    pub(super) fn meet(&mut self, key: PublicKey, now: Now) -> Option<&mut Peer> {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&key) {
            let unproven = self.all().filter(|peer| !peer.is_live(now));
            let least = unproven.min_by_key(|peer| (peer.handshake_at.is_some(), peer.heard_at))?;
            let least = least.key;
            self.peers.remove(&least);
        }
        Some(self.peers.entry(key).or_insert_with(|| Peer::new(key, now)))
    }

    pub(super) fn remove(&mut self, key: &PublicKey) {
        self.peers.remove(key);
    }

    pub(super) fn is_taken(&self, ip: IpAddr) -> bool {
        self.all().any(|peer| peer.mesh_ip == Some(ip))
    }

    /// Takes a cached peer over if it was heard lately enough to be still there.
    pub(super) fn restore(&mut self, cached: &CachedPeer, now: Now) -> bool {
        let age_secs = now.unix.saturating_sub(cached.last_seen).max(0);
        let age_ms = u64::try_from(age_secs).unwrap_or_default().saturating_mul(1000);
        if age_ms >= ACTIVE_MAX_MS {
            // Old entries are greeted, not trusted; very old ones not even that.
            return age_secs > CACHE_AGE_MAX_SECS;
        }
        let Some(peer) = self.meet(cached.wg_pubkey, now) else { return true };
        peer.hostname.clone_from(&cached.hostname);
        peer.mesh_ip = Some(cached.mesh_ip);
        peer.mesh_ipv6 = cached.mesh_ipv6;
        peer.routes.clone_from(&cached.routable_networks);
        peer.heard_at = now.mono_ms.saturating_sub(age_ms);
        peer.heard_unix = cached.last_seen;
        peer.met(Via::Cache);
        if let Some(endpoint) = cached.endpoint {
            peer.offer_endpoint(endpoint, Via::Cache, now);
        }
        true
    }

    pub(super) fn cached(&self) -> Vec<CachedPeer> {
        let known = self.all().filter_map(|peer| Some((peer, peer.mesh_ip?)));
        known
            .map(|(peer, mesh_ip)| CachedPeer {
                wg_pubkey: peer.key,
                hostname: peer.hostname.clone(),
                mesh_ip,
                mesh_ipv6: peer.mesh_ipv6,
                endpoint: peer.endpoint_address(),
                routable_networks: peer.routes.clone(),
                last_seen: peer.heard_unix,
                certificate: peer
                    .standing
                    .as_ref()
                    .and_then(|standing| standing.as_ref().ok())
                    .map(|member| member.certificate().to_owned()),
            })
            .collect()
    }

    /// A handshake is a life sign, as is whatever came through the tunnel, and where it came from
    /// is where the peer is.
    pub(super) fn device_saw(&mut self, seen: &DevicePeer, now: Now) -> bool {
        if let Some(peer) = self.get_mut(&seen.key) {
            if peer.vitals.received(seen.rx_bytes, now) {
                peer.heard_at = now.mono_ms;
                peer.heard_unix = now.unix;
                peer.received_at = Some(now.mono_ms);
            }
            let traffic = Traffic { rx_bytes: seen.rx_bytes, tx_bytes: seen.tx_bytes };
            peer.traffic = Some(traffic);
            // One that is too old to prove anything still tells that there once was one.
            let at = seen.handshake_age_ms.map(|age_ms| now.mono_ms.saturating_sub(age_ms));
            peer.handshake_at = peer.handshake_at.max(at);
        }
        let Some(age_ms) = seen.handshake_age_ms.filter(|_| seen.is_live()) else { return false };
        let is_new = !self.peers.contains_key(&seen.key);
        let mesh_ip = seen.mesh_ip(self.subnet);
        if is_new && mesh_ip.is_none() {
            return false;
        }
        let Some(peer) = self.meet(seen.key, now) else { return false };
        if is_new {
            peer.mesh_ip = mesh_ip.map(IpAddr::V4);
            peer.met(Via::Cache);
        }
        let at = now.mono_ms.saturating_sub(age_ms);
        peer.handshake_at = Some(peer.handshake_at.map_or(at, |before| before.max(at)));
        if at > peer.heard_at {
            peer.heard_at = at;
            peer.heard_unix = now.unix - i64::try_from(age_ms / 1000).unwrap_or_default();
        }
        let roamed = seen.endpoint.is_some_and(|endpoint| peer.roamed_to(endpoint, now));
        is_new || roamed
    }

    /// Whom to probe now, the longest silent first; whoever is given up comes last.
    pub(super) fn probes_due(&self, now: Now) -> Vec<PublicKey> {
        let active = self.all().filter(|peer| peer.is_active(now));
        let is_due = |peer: &&Peer| match peer.leaving_since.map(|at| at + ENDING_MS) {
            Some(ended) => now.mono_ms >= ended && !peer.vitals.was_probed_since(ended),
            None => peer.vitals.is_probe_due(peer.is_live(now), now),
        };
        let mut due: Vec<&Peer> = active.filter(is_due).collect();
        due.sort_by_key(|peer| (peer.vitals.is_unheard(now), peer.vitals.alive_at));
        due.into_iter().map(|peer| peer.key).collect()
    }

    pub(super) fn probed(&mut self, key: &PublicKey, outcome: Probe, now: Now) {
        let Some(peer) = self.get_mut(key) else { return };
        peer.vitals.probed(outcome, now);
        peer.rtt_us = match outcome {
            Probe::Pong { micros } => Some(micros),
            Probe::Refused | Probe::Silence => None,
        };
        if outcome != Probe::Silence {
            peer.heard(now);
            let stayed = |at: &u64| peer.vitals.was_probed_since(at + ENDING_MS);
            if peer.leaving_since.as_ref().is_some_and(stayed) {
                peer.leaving_since = None;
            }
        }
    }

    pub(super) fn note_hello(&mut self, key: &PublicKey, now: Now) {
        if let Some(peer) = self.get_mut(key) {
            peer.hello_at = Some(now.mono_ms);
            if peer.more_at.take().is_some() {
                peer.more_asked += 1;
            }
        }
    }

    /// Who has not spoken for so long that he should be asked.
    pub(super) fn silent(&self, now: Now) -> impl Iterator<Item = PublicKey> {
        let overdue =
            move |at: Option<u64>, after: u64| at.is_none_or(|at| at + after <= now.mono_ms);
        let is_silent = move |peer: &&Peer| {
            if peer.leaving_since.is_some() {
                // One lost datagram must not make a goodbye come true.
                return overdue(peer.hello_at, ASK_LEAVING_EVERY_MS);
            }
            let asks_for_more = peer.more_at.is_some_and(|at| at <= now.mono_ms);
            if asks_for_more {
                return true;
            }
            overdue(peer.message_at, HELLO_WHEN_SILENT_MS) && overdue(peer.hello_at, HELLO_EVERY_MS)
        };
        self.all().filter(is_silent).map(|peer| peer.key)
    }

    /// Takes out and returns who is gone.
    pub(super) fn lapse(&mut self, now: Now) -> Vec<Peer> {
        let gone = |peer: &Peer| {
            now.mono_ms >= peer.heard_at + FORGET_MS
                || peer.leaving_since.is_some_and(|at| now.mono_ms >= at + GOODBYE_PATIENCE_MS)
        };
        self.peers.extract_if(.., |_, peer| gone(peer)).map(|(_, peer)| peer).collect()
    }

    pub(super) fn claimed_routes(
        &self,
        keys: &BTreeMap<PublicKey, PeerConfig>,
    ) -> BTreeMap<PublicKey, Vec<IpNet>> {
        let claims =
            self.all().filter(|peer| !peer.routes.is_empty() && keys.contains_key(&peer.key));
        claims.map(|peer| (peer.key, peer.routes.clone())).collect()
    }

    /// What should be on the device, routes aside: active peers, each mesh address once.
    pub(super) fn desired(
        &self,
        own: [Option<IpAddr>; 2],
        psk: impl Fn(&PublicKey) -> Psk,
        configured: &BTreeMap<PublicKey, PeerConfig>,
        now: Now,
    ) -> BTreeMap<PublicKey, PeerConfig> {
        let mut owners: BTreeMap<IpAddr, &Peer> = BTreeMap::new();
        for peer in self.all().filter(|peer| peer.is_active(now)) {
            for ip in peer.mesh_ips() {
                let is_host = match ip {
                    IpAddr::V4(ip) => self.subnet.is_host(ip),
                    // Checked when it was heard.
                    IpAddr::V6(_) => true,
                };
                if is_host && !own.contains(&Some(ip)) {
                    let owner = owners.entry(ip).or_insert(peer);
                    if rights(peer, ip, configured, now) > rights(owner, ip, configured, now) {
                        *owner = peer;
                    }
                }
            }
        }
        let owns =
            |ip: &IpAddr, peer: &Peer| owners.get(ip).is_some_and(|owner| owner.key == peer.key);
        let mut desired = BTreeMap::new();
        for (ip, peer) in &owners {
            let IpAddr::V4(mesh_ip) = *ip else { continue };
            let allowed_ips =
                peer.mesh_ips().filter(|ip| owns(ip, peer)).map(IpNet::from).collect();
            let endpoint = peer.endpoint_address();
            let config =
                PeerConfig { key: peer.key, endpoint, mesh_ip, allowed_ips, psk: psk(&peer.key) };
            desired.insert(peer.key, config);
        }
        desired
    }
}

/// Who is proven has a contested address, then who has it already; keys come in order, so among
/// the rest the smaller one has it.
fn rights(
    peer: &Peer,
    ip: IpAddr,
    configured: &BTreeMap<PublicKey, PeerConfig>,
    now: Now,
) -> (bool, bool, bool) {
    let holds =
        configured.get(&peer.key).is_some_and(|has| has.allowed_ips.contains(&IpNet::from(ip)));
    let is_live = peer.is_live(now);
    (holds && is_live, is_live, holds)
}
