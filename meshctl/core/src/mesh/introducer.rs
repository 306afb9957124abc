//! The introducer's part of a rendezvous: who asks for a peer is told where it is, and so is the peer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::Mesh;
use super::effect::Effect;
use super::event::Now;
use super::peer::Peer;
use super::speech::{DATAGRAM_MAX_BYTES, known_peer};
use crate::envelope::{Kind, Opened, sealed_len};
use crate::key::PublicKey;
use crate::message::KnownPeer;
use crate::message::rendezvous::{HeardOffer, Start, StartExtension, read_offer};

const SESSIONS_MAX: usize = 1024;
const SESSION_MS: u64 = 20_000;
const START_EVERY_MS: u64 = 8_000;
/// Our clock has whole seconds: the two begin 1.3 to 2.3 s from now, both at once.
const START_AHEAD_MS: i64 = 2_300;
/// Where a peer's exchange was heard from is where it is for so long.
const CONTROL_MAX_MS: u64 = 120_000;
/// NATs often give neighbouring ports.
const PORTS: [i32; 5] = [0, -1, 1, -2, 2];

/// The offers of one pair.
struct Session {
    /// Who offered, from where, when.
    offers: BTreeMap<PublicKey, (SocketAddr, u64)>,
    started_at: Option<u64>,
    touched_at: u64,
}

#[derive(Default)]
pub(super) struct Sessions(BTreeMap<(PublicKey, PublicKey), Session>);

impl Sessions {
    /// Notes an offer; returns whether a START is due.
    fn offered(&mut self, offer: &HeardOffer, from: SocketAddr, now: Now) -> bool {
        self.0.retain(|_, session| session.touched_at + SESSION_MS > now.mono_ms);
        let pair = (offer.from.min(offer.target), offer.from.max(offer.target));
        if self.0.len() >= SESSIONS_MAX && !self.0.contains_key(&pair) {
            return false;
        }
        let session = self.0.entry(pair).or_insert_with(|| Session {
            offers: BTreeMap::new(),
            started_at: None,
            touched_at: now.mono_ms,
        });
        session.touched_at = now.mono_ms;
        session.offers.insert(offer.from, (from, now.mono_ms));
        let due = session.started_at.is_none_or(|at| now.mono_ms >= at + START_EVERY_MS);
        if due {
            session.started_at = Some(now.mono_ms);
        }
        due
    }

    /// Where the target's own offer came from, if it made one.
    fn offer_of(&self, offer: &HeardOffer) -> Option<SocketAddr> {
        let pair = (offer.from.min(offer.target), offer.from.max(offer.target));
        let (address, _) = self.0.get(&pair)?.offers.get(&offer.target)?;
        Some(*address)
    }
}

impl Mesh {
    pub(super) fn offer_heard(
        &mut self,
        from: SocketAddr,
        opened: &Opened,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let Some(offer) = read_offer(&opened.body).filter(|_| self.settings.introducer) else {
            return;
        };
        let own = self.settings.public_key;
        // Members only, and only those that we hear ourselves.
        let is_active =
            |key: &PublicKey| self.peers.get(key).is_some_and(|peer| peer.is_active(now));
        if offer.from == own
            || offer.target == own
            || !is_active(&offer.from)
            || !is_active(&offer.target)
        {
            return;
        }
        if !self.is_own_word(&offer.from, from, opened, now) {
            return;
        }
        if offer.wants_certificate {
            effects.extend(self.certificate_told(&offer, from, now));
            return;
        }
        if let Some(relay) = offer.relay {
            if self.came_through_tunnel_of(&offer.from, from.ip()) {
                effects.extend(self.word_handed_on(&offer, relay, now));
            }
            return;
        }
        if !self.sessions.offered(&offer, from, now) {
            return;
        }
        let Some(target) = self.peers.get(&offer.target) else { return };
        let target_at = self.sessions.offer_of(&offer).or_else(|| self.seen_at(target, now));
        let Some(target_at) = target_at else { return };
        let notice_to = self.inside(target, now).unwrap_or(target_at);
        effects.extend([
            self.start(offer.from, offer.target, target_at, from, now),
            self.start(offer.target, offer.from, from, notice_to, now),
        ]);
    }

    /// Whether WireGuard vouches for a sender. What moves a tunnel's traffic elsewhere must have
    /// come so: every member can name another one.
    pub(super) fn came_through_tunnel_of(&self, key: &PublicKey, source: IpAddr) -> bool {
        self.peers.get(key).is_some_and(|peer| peer.mesh_ips().any(|ip| ip == source))
    }

    fn start(
        &self,
        to: PublicKey,
        peer: PublicKey,
        peer_at: SocketAddr,
        address: SocketAddr,
        now: Now,
    ) -> Effect {
        let extension = StartExtension { peer: self.told_of(&peer, now), relay: None };
        let times = (now.unix, now.unix * 1000 + START_AHEAD_MS);
        let keys = (to, peer, self.settings.public_key);
        let extension = self.peers.get(&to).is_some_and(|peer| peer.is_knit).then_some(extension);
        self.send_start(address, &Start::new(keys, candidates(peer_at), times, extension))
    }

    /// Tells the target that the other wants to be relayed to it, or does not any more.
    fn word_handed_on(&self, offer: &HeardOffer, relay: bool, now: Now) -> Option<Effect> {
        let target = self.peers.get(&offer.target).filter(|peer| peer.is_knit)?;
        let address = self.inside(target, now)?;
        let extension = StartExtension { peer: self.told_of(&offer.from, now), relay: Some(relay) };
        let keys = (offer.target, offer.from, self.settings.public_key);
        let times = (now.unix, now.unix * 1000);
        Some(self.send_start(address, &Start::new(keys, Vec::new(), times, Some(extension))))
    }

    fn told_of(&self, key: &PublicKey, now: Now) -> Option<KnownPeer> {
        known_peer(self.peers.get(key)?, self.settings.introducer, now)
    }

    /// Where a peer's exchange is, as seen from here.
    fn seen_at(&self, peer: &Peer, now: Now) -> Option<SocketAddr> {
        let seen = peer.control.filter(|(_, at)| now.mono_ms < at + CONTROL_MAX_MS);
        let beside = || Some(self.control_of(peer.endpoint_address()?.ip()));
        seen.map(|(address, _)| address).or_else(beside)
    }

    /// Tells who asks what the target's certificate is, beside what it tells anyway: that alone
    /// makes the target a peer where an authority is required, to be relayed to.
    fn certificate_told(&self, offer: &HeardOffer, to: SocketAddr, now: Now) -> Option<Effect> {
        let target = self.peers.get(&offer.target)?;
        let member = target.standing.as_ref()?.as_ref().ok()?;
        let mut told = self.told_of(&offer.target, now)?;
        told.kn.as_mut()?.certificate = Some(member.certificate().to_owned());
        let keys = (offer.from, offer.target, self.settings.public_key);
        let times = (now.unix, now.unix * 1000);
        let start = |told: &KnownPeer| {
            let extension = StartExtension { peer: Some(told.clone()), relay: None };
            self.send_start(to, &Start::new(keys, Vec::new(), times, Some(extension)))
        };
        // What a certificate of the longest name leaves no room for is heard of the node itself.
        let leaner: [fn(&mut KnownPeer); 2] =
            [|told| told.hostname.clear(), |told| told.mesh_ipv6 = None];
        for leave_out in leaner {
            if fits(&start(&told)) {
                break;
            }
            leave_out(&mut told);
        }
        Some(start(&told)).filter(fits)
    }

    fn send_start(&self, to: SocketAddr, start: &Start) -> Effect {
        Effect::Send { to, kind: Kind::Start, plaintext: self.word(start) }
    }

    /// The way to one of ours through its tunnel, which no NAT has forgotten.
    fn inside(&self, peer: &Peer, now: Now) -> Option<SocketAddr> {
        let reached = peer.is_knit && peer.is_live(now);
        let ip = peer.mesh_ip.filter(|ip: &IpAddr| reached && ip.is_ipv4())?;
        Some(self.control_of(ip))
    }
}

fn candidates(at: SocketAddr) -> Vec<SocketAddr> {
    let port = i32::from(at.port());
    let ports = PORTS.into_iter().filter_map(|offset| u16::try_from(port + offset).ok());
    ports.filter(|port| *port != 0).map(|port| SocketAddr::new(at.ip(), port)).collect()
}

fn fits(effect: &Effect) -> bool {
    matches!(effect, Effect::Send { kind, plaintext, .. }
        if sealed_len(*kind, plaintext.len()) <= DATAGRAM_MAX_BYTES)
}
