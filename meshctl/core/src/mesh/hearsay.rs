//! Who becomes a peer although nobody but an introducer has heard it: to be relayed to, no more.
//!
//! ```text
//!   mention ── 8 s of HELLOs, or both NATs symmetric ──> peer, reached through the introducer
//!      └── where an authority is required: its certificate is asked for, and must count ──┘
//! ```

use std::net::IpAddr;

use super::effect::{Effect, Report};
use super::event::Now;
use super::membership::Standing;
use super::mentions::Mention;
use super::peer::Via;
use super::relay::is_introducer_up;
use super::{Mesh, NatType};
use crate::envelope::Kind;
use crate::key::PublicKey;
use crate::message::rendezvous::Offer;
use crate::message::{Claim, HeardOf};

/// One that is only heard of gets HELLOs for so long before it is relayed to.
const HELLO_MS: u64 = 8_000;
/// One that answers its HELLO tells its certificate itself.
const ASK_AFTER_MS: u64 = 1_000;
const ASK_EVERY_MS: u64 = 5_000;

impl Mesh {
    /// Writes down what an introducer tells of a peer. A certificate that does not count now never
    /// takes the place of one that did.
    pub(super) fn heard_of(&mut self, introducer: PublicKey, told: &HeardOf, now: Now) {
        self.mentions.heard(introducer, told, now);
        let known = self.mentions.get(&told.key).and_then(|mention| mention.member.as_ref());
        let text = told.certificate.as_deref();
        let member = self.membership.heard_of(told.key, text, known, now);
        let is_newer = |member: &super::Member| {
            known.is_none_or(|known| known.terms.not_before <= member.terms.not_before)
        };
        if let Some(member) = member.filter(|member| is_newer(member))
            && let Some(mention) = self.mentions.get_mut(&told.key)
        {
            mention.member = Some(member);
        }
    }

    pub(super) fn meet_by_hearsay(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let wanted: Vec<PublicKey> = self
            .mentions
            .all()
            .filter(|(key, mention)| self.is_relay_wanted(key, mention, now))
            .map(|(key, _)| *key)
            .collect();
        for key in wanted {
            let standing = self.standing_by_hearsay(&key, now);
            if self.membership.is_required() && !matches!(standing, Some(Ok(_))) {
                continue;
            }
            let Some(mention) = self.mentions.get_mut(&key) else { continue };
            if mention.may_make_peer(now) {
                let (told, first_at) = (mention.told.clone(), mention.first_at);
                self.make_peer(told, first_at, standing, now, effects);
            }
        }
    }

    /// Whether one that is heard of is no peer yet, did not answer, and could be relayed to.
    fn is_relay_wanted(&self, key: &PublicKey, mention: &Mention, now: Now) -> bool {
        self.is_stranger(key, now)
            && self.has_waited(mention, HELLO_MS, now)
            && self.first_up(mention.relays(), now).is_some()
    }

    fn is_stranger(&self, key: &PublicKey, now: Now) -> bool {
        let is_known = self.peers.get(key).is_some_and(|peer| peer.is_active(now));
        !is_known && *key != self.settings.public_key
    }

    /// Two symmetric NATs cannot be passed: there is nothing to wait for.
    fn has_waited(&self, mention: &Mention, wait_ms: u64, now: Now) -> bool {
        let symmetric = Some(NatType::Symmetric);
        let both_symmetric = self.nat_type == symmetric && mention.told.nat_type == symmetric;
        self.settings.force_relay || both_symmetric || now.mono_ms >= mention.first_at + wait_ms
    }

    /// The first of these introducers whose own tunnel stands.
    fn first_up(
        &self,
        mut introducers: impl Iterator<Item = PublicKey>,
        now: Now,
    ) -> Option<PublicKey> {
        introducers.find(|key| self.peers.get(key).is_some_and(|peer| is_introducer_up(peer, now)))
    }

    fn standing_by_hearsay(&self, key: &PublicKey, now: Now) -> Option<Standing> {
        let member = self.mentions.get(key)?.member.as_ref()?;
        Some(self.membership.standing(member, now.unix))
    }

    fn make_peer(
        &mut self,
        told: HeardOf,
        first_at: u64,
        standing: Option<Standing>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let prefix = self.settings.keys.v6_prefix;
        // Where an authority is required, hearsay aims the device at nobody: a punch may.
        let endpoint = match told.endpoint {
            Claim::Address(endpoint) => Some(endpoint),
            Claim::Source(_) | Claim::Unusable => None,
        };
        let is_required = self.membership.is_required();
        if endpoint.is_none() && !is_required {
            return;
        }
        let endpoint = endpoint.filter(|at| !is_required && self.is_underlay(at.ip()));
        let Some(peer) = self.peers.meet(told.key, now) else { return };
        // A tunnel that stood, or a message of its own, says more than hearsay.
        if peer.message_at.is_none() {
            peer.hostname = told.hostname.unwrap_or_default();
            peer.mesh_ip = told.mesh_ip;
            peer.mesh_ipv6 = told.mesh_ipv6.filter(|ip| super::hearing::is_mesh_ipv6(prefix, *ip));
            peer.nat_type = told.nat_type;
            peer.is_knit = told.ours.unwrap_or(false);
        }
        if let Some(Ok(member)) = standing {
            if peer.hostname.is_empty() {
                peer.hostname.clone_from(&member.terms.name);
            }
            peer.standing = Some(Ok(member));
        }
        peer.heard_at = now.mono_ms;
        peer.met(Via::Transitive);
        peer.path.tried_since(first_at);
        if let Some(endpoint) = endpoint {
            peer.offer_endpoint(endpoint, Via::Transitive, now);
        }
        let (key, hostname, via) = (peer.key, peer.hostname.clone(), Via::Transitive.as_str());
        self.counters.found_by(via);
        effects.push(Effect::Report(Report::Found { key, hostname, via }));
        effects.push(Effect::PeersChanged);
    }

    /// Asks introducers for the certificates of those that could be relayed to, where one is needed.
    /// A signed REPLY has no room for them beside the peers that it tells of.
    pub(super) fn ask_for_certificates(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.membership.is_required() || self.settings.introducer {
            return;
        }
        let is_due = |mention: &Mention| {
            self.has_waited(mention, ASK_AFTER_MS, now)
                && mention.asked_at.is_none_or(|at| now.mono_ms >= at + ASK_EVERY_MS)
        };
        // The answer also says anew who could relay to it.
        let lacks = |key: &PublicKey, mention: &Mention| {
            !matches!(self.standing_by_hearsay(key, now), Some(Ok(_)))
                || self.first_up(mention.relays(), now).is_none()
        };
        let wanted: Vec<(PublicKey, PublicKey)> = self
            .mentions
            .all()
            .filter(|(key, mention)| {
                self.is_stranger(key, now) && is_due(mention) && lacks(key, mention)
            })
            .filter_map(|(key, mention)| Some((*key, self.first_up(mention.tellers(), now)?)))
            .collect();
        for (target, introducer) in wanted {
            let through = self.peers.get(&introducer).and_then(|peer| peer.mesh_ip);
            let Some(through) = through.filter(IpAddr::is_ipv4) else { continue };
            if !self.rendezvous.may_ask_for_certificate(now) {
                return;
            }
            if let Some(mention) = self.mentions.get_mut(&target) {
                mention.asked_at = Some(now.mono_ms);
            }
            let offer = Offer::for_certificate(self.settings.public_key, target, now.unix);
            let plaintext = self.word(&offer);
            let to = self.control_of(through);
            effects.push(Effect::Send { to, kind: Kind::Offer, plaintext });
        }
    }
}
