//! What a node says: announcements within one unfragmented datagram, and goodbyes.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::effect::Effect;
use super::event::Now;
use super::peer::Peer;
use super::{Mesh, NatType};
use crate::envelope::{Kind, PROTOCOL, sealed_len};
use crate::message::{
    Announcement, Extension, Goodbye, KnownExtension, KnownPeer, REVOKED_MAX, Sent,
};
use crate::signature::ADDED_LEN;

/// Longest datagram: it passes every path's MTU, and a Go receiver's buffer many times over.
pub(super) const DATAGRAM_MAX_BYTES: usize = 1200;
/// A signed message has room for no longer name; the system's own are no longer.
const SIGNED_HOSTNAME_MAX: usize = 64;

/// After so many addresses all begin anew.
const ROTATIONS_MAX: usize = 1024;

impl Mesh {
    pub(super) fn announce(&self, now: Now) -> Effect {
        let mut announcement = self.announcement(Sent::Lan, None, now);
        self.add_revocations(&mut announcement, Kind::Announce, now);
        Effect::Announce(self.finish(&announcement))
    }

    pub(super) fn hello(&mut self, to: SocketAddr, now: Now) -> Effect {
        self.contacts.asked(to, now);
        let mut announcement = self.announcement(Sent::Hello, None, now);
        self.add_revocations(&mut announcement, Kind::Hello, now);
        let plaintext = if self.may_tell(to) {
            self.with_known_peers(announcement, Kind::Hello, Some(to), now)
        } else {
            self.finish(&announcement)
        };
        Effect::Send { to, kind: Kind::Hello, plaintext }
    }

    pub(super) fn reply(&mut self, to: SocketAddr, now: Now) -> Effect {
        let mut announcement = self.announcement(Sent::Reply, Some(to), now);
        self.add_revocations(&mut announcement, Kind::Reply, now);
        let plaintext = self.with_known_peers(announcement, Kind::Reply, Some(to), now);
        Effect::Send { to, kind: Kind::Reply, plaintext }
    }

    /// A word to one peer through its tunnel, to each in turn. Only with an endpoint that others
    /// really see: a Go node would take "my source" for our mesh address, a tunnel within itself.
    pub(super) fn gossip(&mut self, now: Now) -> Option<Effect> {
        self.observed.address()?;
        let peers: Vec<IpAddr> = self.configured.values().map(|peer| peer.mesh_ip.into()).collect();
        let to = *peers.get(self.gossips % peers.len().max(1))?;
        self.gossips = self.gossips.wrapping_add(1);
        let announcement = self.announcement(Sent::Announce, None, now);
        let plaintext = self.with_known_peers(announcement, Kind::Announce, None, now);
        Some(Effect::Send { to: self.control_of(to), kind: Kind::Announce, plaintext })
    }

    pub(super) fn say_goodbye(&self, now: Now, effects: &mut Vec<Effect>) {
        let goodbye = Goodbye::new(self.settings.public_key, now.unix);
        let plaintext = self.word(&goodbye);
        let controls = self.peers.all().filter_map(|peer| self.control_of_peer(&peer.key));
        effects.extend(controls.map(|to| Effect::Send {
            to,
            kind: Kind::Goodbye,
            plaintext: plaintext.clone(),
        }));
    }

    pub(super) fn announcement(
        &self,
        sent: Sent,
        observed: Option<SocketAddr>,
        now: Now,
    ) -> Announcement {
        let certificate = self.membership.own_certificate().map(|own| own.text().to_owned());
        let wildcard = format!("0.0.0.0:{}", self.settings.listen_port);
        Announcement {
            protocol: PROTOCOL,
            wg_pubkey: self.settings.public_key,
            hostname: match certificate {
                Some(_) => self.settings.hostname.chars().take(SIGNED_HOSTNAME_MAX).collect(),
                None => self.settings.hostname.clone(),
            },
            mesh_ip: self.ip.to_string(),
            mesh_ipv6: self.mesh_ipv6().map(|ip| ip.to_string()),
            wg_endpoint: self
                .observed
                .address()
                .map_or(wildcard, |ip| format!("{ip}:{}", self.settings.listen_port)),
            introducer: self.settings.introducer,
            routable_networks: self.settings.routes.clone(),
            timestamp: now.unix,
            known_peers: Vec::new(),
            observed_endpoint: observed.map(|address| address.to_string()),
            nat_type: self.nat_type.map(NatType::as_str),
            kn: Extension {
                boot: self.settings.boot,
                accepts: self.secrets.accepts(),
                sent,
                certificate,
                revoked: Vec::new(),
                relay6: self.settings.introducer && self.settings.relays_ipv6,
                peers: None,
            },
        }
    }

    /// Adds what fits of the revocations to tell.
    fn add_revocations(&self, message: &mut Announcement, kind: Kind, now: Now) {
        let mut len = self.finished_len(message) + r#","revoked":[]"#.len();
        for text in self.membership.to_tell(now, REVOKED_MAX) {
            // With its quotes and a comma.
            len += text.len() + 3;
            if sealed_len(kind, len) <= DATAGRAM_MAX_BYTES {
                message.kn.revoked.push(text.to_owned());
            }
        }
    }

    pub(super) fn finished_len(&self, message: &Announcement) -> usize {
        render(message).len() + self.membership.signer().map_or(0, |_| ADDED_LEN)
    }

    /// The bytes of a goodbye or of what concerns a rendezvous, signed by who has a certificate.
    pub(super) fn word(&self, word: &impl Serialize) -> Vec<u8> {
        let mut plaintext = serde_json::to_vec(word).unwrap_or_default();
        let Some(signer) = self.membership.signer() else { return plaintext };
        // The signature stands in the object that Go nodes ignore.
        if !plaintext.ends_with(b"}}") && plaintext.pop() == Some(b'}') {
            plaintext.extend_from_slice(br#","kn":{"signed":true}}"#);
        }
        signer.sign(&plaintext)
    }

    /// The bytes of a message, signed by who has a certificate.
    fn finish(&self, message: &Announcement) -> Vec<u8> {
        let plaintext = render(message);
        match self.membership.signer() {
            Some(signer) => signer.sign(&plaintext),
            None => plaintext,
        }
    }

    /// Adds as many peers as fit; the next message goes on with those that did not. An introducer
    /// does so for each of those who ask it: its clients learn of each other by it alone.
    fn with_known_peers(
        &mut self,
        mut message: Announcement,
        kind: Kind,
        to: Option<SocketAddr>,
        now: Now,
    ) -> Vec<u8> {
        let introducer = self.settings.introducer;
        let known: Vec<KnownPeer> = self
            .peers
            .all()
            .filter(|peer| {
                peer.is_active(now) && peer.leaving_since.is_none() && !peer.is_hearsay()
            })
            .filter_map(|peer| known_peer(peer, introducer, now))
            .collect();
        message.kn.peers = introducer.then_some(known.len());
        let mut len = self.finished_len(&message) + r#","known_peers":[]"#.len();
        if self.rotations.len() > ROTATIONS_MAX {
            self.rotations.clear();
        }
        let rotation = self.rotations.entry(to.filter(|_| introducer)).or_default();
        let mut added = 0;
        for index in 0..known.len() {
            let mut peer = known[(*rotation + index) % known.len()].clone();
            if index == 0 && sealed_len(kind, len + json_len(&peer)) > DATAGRAM_MAX_BYTES {
                // Alone it is told of by what it is reached by; the rest it says itself.
                peer.hostname.clear();
                peer.mesh_ipv6 = None;
            }
            len += json_len(&peer);
            if sealed_len(kind, len) > DATAGRAM_MAX_BYTES {
                // One for which there is no room at all must not hold up those after it.
                added = added.max(1);
                break;
            }
            message.known_peers.push(peer);
            added += 1;
        }
        *rotation = if added == known.len() { 0 } else { (*rotation + added) % known.len() };
        self.finish(&message)
    }
}

/// A peer as it is told of; by an introducer with whether it can be relayed to.
pub(super) fn known_peer(peer: &Peer, by_introducer: bool, now: Now) -> Option<KnownPeer> {
    Some(KnownPeer {
        wg_pubkey: peer.key,
        hostname: peer.hostname.clone(),
        mesh_ip: peer.mesh_ip?.to_string(),
        mesh_ipv6: peer.mesh_ipv6.map(|ip| ip.to_string()),
        wg_endpoint: peer.endpoint_address()?.to_string(),
        introducer: peer.introducer,
        nat_type: peer.nat_type.map(NatType::as_str),
        kn: by_introducer.then(|| KnownExtension {
            live: peer.is_live(now),
            ours: peer.is_knit,
            certificate: None,
        }),
    })
}

fn render(announcement: &Announcement) -> Vec<u8> {
    serde_json::to_vec(announcement).unwrap_or_default()
}

/// With the comma that parts it from the next one.
fn json_len(peer: &KnownPeer) -> usize {
    serde_json::to_vec(peer).map_or(usize::MAX / 2, |json| json.len() + 1)
}
