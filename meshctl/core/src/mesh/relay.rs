//! Who is reached through whom.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::effect::{Effect, PeerConfig, Report};
use super::event::Now;
use super::path::Facts;
use super::peer::Peer;
use super::{HANDSHAKE_LIVE_MS, Mesh, NatType};
use crate::derive::{relay_index, relay_weight};
use crate::key::PublicKey;

/// A path is found again this often: what it depends on is told once a second.
const PATHS_EVERY_MS: u64 = 500;
/// An introducer through which nothing comes back for so long gives way to another.
const BARREN_MS: u64 = 20_000;

impl Mesh {
    /// Makes peers of those that can only be relayed to, and finds the path of each peer; not at
    /// every tick, for it goes through all of them.
    pub(super) fn find_paths(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if now.mono_ms < self.paths_at {
            return;
        }
        self.paths_at = now.mono_ms + PATHS_EVERY_MS;
        self.mentions.lapse(now);
        self.meet_by_hearsay(now, effects);
        self.ask_for_certificates(now, effects);
        let keys: Vec<PublicKey> = self.peers.all().map(|peer| peer.key).collect();
        for key in keys {
            self.find_path(&key, now, effects);
        }
    }

    fn find_path(&mut self, key: &PublicKey, now: Now, effects: &mut Vec<Effect>) {
        let facts = match self.peers.get(key) {
            Some(peer) if peer.is_active(now) => self.facts(peer, now),
            Some(_) | None => return,
        };
        let candidates = self.relays_to(key, now);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let is_relayed = peer.path.decide(facts, now);
        let relay = if is_relayed { self.choose_relay(key, &candidates, now) } else { None };
        let Some(peer) = self.peers.get_mut(key) else { return };
        let changed = peer.path.set_relay(relay, now);
        let word = if peer.is_knit { peer.path.word_due(now) } else { None };
        if changed {
            // What the old path did not bring says nothing of the new one.
            peer.vitals.begin_anew(now);
            let (key, hostname) = (*key, peer.hostname.clone());
            effects.push(Effect::Report(match relay {
                Some(through) => Report::Relayed { key, hostname, through },
                None => Report::Direct { key, hostname },
            }));
            effects.push(Effect::PeersChanged);
        }
        let through = relay.or_else(|| candidates.first().copied());
        let through = through.and_then(|introducer| self.peers.get(&introducer));
        if let Some(wants_relay) = word
            && let Some(IpAddr::V4(ip)) = through.and_then(|introducer| introducer.mesh_ip)
        {
            // Through the tunnel: no NAT has forgotten that.
            effects.push(self.offer(*key, self.control_of(ip.into()), Some(wants_relay), now));
        }
    }

    fn facts(&self, peer: &Peer, now: Now) -> Facts {
        let symmetric = Some(NatType::Symmetric);
        Facts {
            is_near: self.settings.introducer || peer.introducer || peer.is_near(now),
            is_forced: self.settings.force_relay,
            both_symmetric: self.nat_type == symmetric && peer.nat_type == symmetric,
            handshake_at: peer.handshake_at,
            is_live: peer.is_live(now),
            received_at: peer.received_at,
            is_unheard: peer.vitals.is_unheard(now),
        }
    }

    /// The introducers that can relay to a peer, sorted by key.
    fn relays_to(&self, key: &PublicKey, now: Now) -> Vec<PublicKey> {
        let Some(mention) = self.mentions.get(key) else { return Vec::new() };
        let is_up = |introducer: &PublicKey| {
            self.peers.get(introducer).is_some_and(|peer| is_introducer_up(peer, now))
        };
        mention.relays().filter(|introducer| introducer != key && is_up(introducer)).collect()
    }

    /// The one through which both of a pair go: of two that do not agree, the larger key follows.
    fn choose_relay(
        &self,
        key: &PublicKey,
        candidates: &[PublicKey],
        now: Now,
    ) -> Option<PublicKey> {
        let own = self.settings.public_key;
        let peer = self.peers.get(key)?;
        let present = peer.path.relay;
        let is_barren =
            peer.vitals.is_unheard(now) && now.mono_ms >= peer.path.relay_since + BARREN_MS;
        let avoided = present.filter(|_| is_barren && candidates.len() > 1);
        let usable = |introducer: &PublicKey| {
            candidates.contains(introducer) && Some(*introducer) != avoided
        };
        if !peer.is_knit && peer.message_at.is_some() {
            // A Go node sends through whom its own formula names, and hears only that one.
            return candidates.get(relay_index(key, &own, candidates.len())?).copied();
        }
        if own > *key
            && let Some(theirs) = peer.path.their_relay(now).filter(usable)
        {
            return Some(theirs);
        }
        let best = candidates.iter().filter(|introducer| usable(introducer));
        present
            .filter(usable)
            .or_else(|| best.max_by_key(|through| relay_weight(&own, key, through)).copied())
    }

    /// Moves the addresses of relayed peers to their introducers. Their own entries stay on the
    /// device and go on trying: a handshake is what proves that the direct path is there.
    pub(super) fn route_relayed(&self, desired: &mut BTreeMap<PublicKey, PeerConfig>) {
        let relayed = self.peers.all().filter_map(|peer| Some((peer.key, peer.path.relay?)));
        for (key, through) in relayed {
            let Some(introducer) = self.peers.get(&through) else { continue };
            if !desired.contains_key(&through) {
                continue;
            }
            let Some(config) = desired.get_mut(&key) else { continue };
            let mut allowed = std::mem::take(&mut config.allowed_ips);
            allowed.retain(|net| matches!(net, IpNet::V4(_)) || introducer.relays_ipv6);
            if let Some(carrier) = desired.get_mut(&through) {
                carrier.allowed_ips.extend(allowed);
                carrier.allowed_ips.sort();
                carrier.allowed_ips.dedup();
            }
        }
    }
}

/// Whether an introducer's own tunnel stands, so that something can be sent through it.
pub(super) fn is_introducer_up(peer: &Peer, now: Now) -> bool {
    let is_live = peer.handshake_at.is_some_and(|at| now.mono_ms < at + HANDSHAKE_LIVE_MS);
    peer.introducer && is_live && peer.path.relay.is_none() && !peer.vitals.is_unheard(now)
}
