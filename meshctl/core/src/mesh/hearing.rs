//! What a node makes of a datagram.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::effect::{Effect, Report};
use super::event::{Now, Path};
use super::membership::replay_id;
use super::observed::Voter;
use super::peer::Via;
use super::replay::Seen;
use super::{CLASH_PATIENCE_MS, Mesh};
use crate::envelope::{self, BadEnvelope, Kind, Opened};
use crate::key::PublicKey;
use crate::message::{Claim, Heard, Sent, read_announcement, read_goodbye};

const GREET_LAN_EVERY_MS: u64 = 5_000;
/// One that has started anew forgot what it was told a moment ago.
const GREET_STARTED_EVERY_MS: u64 = 200;
/// Clocks of one LAN differ by no more.
const START_SKEW_SECS: i64 = 5;
const MORE_EVERY_MS: u64 = 1_000;
/// Enough for the largest mesh; what an introducer says of its number is a claim.
const MORE_ASKED_MAX: u32 = 500;
const GOODBYE_SKEW_MAX_SECS: u64 = 60;

impl Mesh {
    pub(super) fn datagram(
        &mut self,
        path: Path,
        from: SocketAddr,
        bytes: &[u8],
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let limiter = match path {
            Path::Exchange => &mut self.limiter,
            Path::Lan => &mut self.lan_limiter,
        };
        if !limiter.admit(from.ip(), now) {
            self.counters.drop_for("rate");
            return;
        }
        let opened = match self.open(bytes, now.unix) {
            Ok(opened) => opened,
            Err(BadEnvelope::Clock(off_secs)) => {
                self.counters.drop_for("clock");
                if self.clock_reports.may_tell(from.ip(), now) {
                    effects.push(Effect::Report(Report::Clock { from, off_secs }));
                }
                return;
            }
            // Other meshes share the multicast port: what does not open is not ours.
            Err(BadEnvelope::Shape | BadEnvelope::Seal | BadEnvelope::Protocol) => {
                self.counters.drop_for("foreign");
                return;
            }
        };
        let may_answer = self.replay.was_answered(&opened.nonce);
        let seen = self.replay.check(opened.nonce, from, now);
        if seen != Seen::First {
            self.counters.drop_for("replayed");
        }
        match (path, opened.kind, seen) {
            (Path::Exchange, Some(Kind::Hello), Seen::AgainFromTheSame) if may_answer => {
                let reply = self.reply(from, now);
                effects.push(reply);
            }
            (_, _, Seen::FromElsewhere | Seen::AgainFromTheSame)
            | (Path::Exchange, None, Seen::First) => {}
            (Path::Exchange, Some(Kind::Goodbye), Seen::First) => {
                self.goodbye(from, &opened, now, effects);
            }
            (Path::Exchange, Some(Kind::Offer), Seen::First) => {
                self.offer_heard(from, &opened, now, effects);
            }
            (Path::Exchange, Some(Kind::Start), Seen::First) => {
                self.start_heard(from, &opened, now);
            }
            (Path::Exchange, Some(kind), Seen::First) => {
                let heard = self.message(Via::from(kind), from, &opened, now, effects);
                if kind == Kind::Hello && heard {
                    self.replay.answered(opened.nonce);
                    let reply = self.reply(from, now);
                    effects.push(reply);
                }
            }
            (Path::Lan, _, Seen::First) => {
                self.message(Via::Lan, from, &opened, now, effects);
            }
        }
    }

    /// Opens a datagram by either secret that is accepted.
    fn open(&self, bytes: &[u8], now_unix: i64) -> Result<Opened, BadEnvelope> {
        let opened = envelope::open(&self.settings.keys.gossip_key, bytes, now_unix);
        match (self.secrets.successor(), opened) {
            (Some(successor), Err(BadEnvelope::Seal)) => {
                let opened = envelope::open(&successor.keys.gossip_key, bytes, now_unix)?;
                Ok(Opened { by_successor: true, ..opened })
            }
            (_, opened) => opened,
        }
    }

    /// Takes a message in; returns whether another node really sent it this way.
    fn message(
        &mut self,
        via: Via,
        from: SocketAddr,
        opened: &Opened,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(mut heard) = read_announcement(&opened.body) else {
            self.counters.drop_for("malformed");
            return false;
        };
        if heard.sent.is_some_and(|sent| Some(sent) != sent_as(via, opened.kind)) {
            self.counters.drop_for("relabelled");
            return false;
        }
        // Also when it is our own voice: a seed may name this very host.
        self.contacts.answered(&heard.key, from, now);
        if heard.key == self.settings.public_key {
            return false;
        }
        if !self.lets_in(via, from, &mut heard, opened, now, effects) {
            self.counters.drop_for("unsigned");
            return false;
        }
        if matches!(heard.standing, Some(Ok(_)))
            && let Some(id) = replay_id(opened)
        {
            match self.replay.check(id, from, now) {
                Seen::First => {}
                Seen::AgainFromTheSame => return true,
                Seen::FromElsewhere => return false,
            }
        }
        if opened.kind == Some(Kind::Reply)
            && let Some(SocketAddr::V4(seen)) = heard.observed_endpoint
            && self.contacts.was_asked(from, now)
        {
            self.observed.vote(Voter::Peer(from.ip()), *seen.ip(), now);
        }
        self.store(via, from, &heard, opened.timestamp, now, effects);
        self.note_secret(&heard, opened.by_successor, now, effects);
        self.counters.taken += 1;
        self.watch_for_clash(&heard, now, effects);
        self.follow_hearsay(&heard, now);
        self.ask_for_more(&heard, now);
        true
    }

    /// Writes down what a peer says of itself.
    fn store(
        &mut self,
        via: Via,
        from: SocketAddr,
        heard: &Heard,
        timestamp: i64,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let endpoint = self.endpoint_of(via, from, heard.endpoint);
        let (subnet, started_unix) = (self.settings.subnet, self.started_unix);
        let (prefix, is_outside) = (self.settings.keys.v6_prefix, self.is_underlay(from.ip()));
        let is_new = self.peers.get(&heard.key).is_none_or(|peer| !peer.is_active(now));
        let Some(peer) = self.peers.meet(heard.key, now) else { return };
        if timestamp < peer.message_unix && !peer.may_step_back(from.ip(), now) {
            return;
        }
        let before = peer.shown();
        peer.heard(now);
        peer.message_at = Some(now.mono_ms);
        peer.message_unix = timestamp;
        peer.clock_offset_secs = Some(timestamp.saturating_sub(now.unix));
        peer.is_knit = heard.sent.is_some();
        peer.leaving_since = None;
        let boot_before = peer.boot;
        let is_fresh_start = heard.boot.is_some() && heard.boot != boot_before;
        peer.boot = heard.boot.or(peer.boot);
        peer.met(via);
        if let Some(standing) = &heard.standing {
            if standing.is_ok() {
                peer.signed_at = Some(now.mono_ms);
            }
            peer.standing = Some(standing.clone());
        }
        if let Some(hostname) = &heard.hostname {
            peer.hostname.clone_from(hostname);
        }
        peer.mesh_ip = heard.mesh_ip.or(peer.mesh_ip);
        peer.mesh_ipv6 = heard.mesh_ipv6.filter(|ip| is_mesh_ipv6(prefix, *ip));
        peer.routes.clone_from(&heard.routes);
        peer.introducer = heard.introducer;
        peer.nat_type = heard.nat_type;
        peer.relays_ipv6 = heard.relays_ipv6;
        if via == Via::Lan {
            peer.lan_at = Some(now.mono_ms);
        } else if is_outside {
            peer.control = Some((from, now.mono_ms));
        }
        // The memory of nonces begins with this run: an older message may be a replay, and moves
        // nobody whose endpoint is known.
        let may_be_replay = timestamp < started_unix - START_SKEW_SECS;
        if let Some(endpoint) =
            endpoint.filter(|_| !may_be_replay || peer.endpoint_address().is_none())
        {
            peer.offer_endpoint(endpoint, via, now);
        }
        let foreign = match peer.mesh_ip {
            Some(IpAddr::V4(ip)) if !subnet.contains(ip) => Some(ip),
            _ => None,
        };
        if let Some(ip) = foreign.filter(|_| !peer.foreign_subnet_reported) {
            peer.foreign_subnet_reported = true;
            effects.push(Effect::Report(Report::ForeignSubnet { key: peer.key, ip }));
        }
        if before != peer.shown() || is_new {
            effects.push(Effect::PeersChanged);
        }
        if is_new {
            self.counters.found_by(via.as_str());
            let hostname = peer.hostname.clone();
            effects.push(Effect::Report(Report::Found {
                key: peer.key,
                hostname,
                via: via.as_str(),
            }));
        }
        let control = self.control_of(from.ip());
        let greet_every_ms = match (is_fresh_start, is_new) {
            (true, _) => Some(GREET_STARTED_EVERY_MS),
            (false, true) => Some(GREET_LAN_EVERY_MS),
            (false, false) => None,
        };
        if let Some(every_ms) = greet_every_ms
            && via == Via::Lan
        {
            if self.contacts.may_greet(control, every_ms, now) {
                let hello = self.hello(control, now);
                effects.push(hello);
            } else if let Some(peer) = self.peers.get_mut(&heard.key) {
                // Too soon: its next announce is to be greeted.
                peer.boot = boot_before;
            }
        }
    }

    /// Where a message says its sender's WireGuard listens; never inside the mesh itself.
    pub(super) fn endpoint_of(
        &self,
        via: Via,
        from: SocketAddr,
        claim: Claim,
    ) -> Option<SocketAddr> {
        let address = match (via, claim) {
            (
                Via::Dht | Via::Gossip | Via::Cache | Via::Transitive | Via::Rendezvous,
                Claim::Address(address),
            ) => address,
            (_, claim) => SocketAddr::new(from.ip(), claim.port()),
        };
        self.is_underlay(address.ip()).then_some(address)
    }

    pub(super) fn is_underlay(&self, ip: IpAddr) -> bool {
        let in_mesh = match ip {
            IpAddr::V4(ip) => self.settings.subnet.contains(ip) || ip.is_broadcast(),
            IpAddr::V6(_) if self.settings.no_ipv6 => return false,
            IpAddr::V6(ip) => ip.octets().starts_with(&self.settings.keys.v6_prefix),
        };
        !in_mesh && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast()
    }

    /// Somebody claims our address. The smaller key keeps it; against one that does not yield
    /// (a Go daemon never does) patience ends.
    fn watch_for_clash(&mut self, heard: &Heard, now: Now, effects: &mut Vec<Effect>) {
        if heard.mesh_ip != Some(IpAddr::V4(self.ip)) {
            if self.clash.is_some_and(|(with, _)| with == heard.key) {
                self.clash = None;
            }
            return;
        }
        let must_yield = heard.key < self.settings.public_key;
        let since = match self.clash {
            Some((with, since)) if with == heard.key => since,
            _ => {
                self.clash = Some((heard.key, now.mono_ms));
                self.counters.clashes += 1;
                if !must_yield {
                    let (with, ip) = (heard.key, self.ip);
                    effects.push(Effect::Report(Report::Clash { with, ip }));
                    self.announce_at = now.mono_ms;
                }
                now.mono_ms
            }
        };
        if must_yield || now.mono_ms >= since + CLASH_PATIENCE_MS {
            self.move_away(now, effects);
        }
    }

    /// An introducer tells of a few peers at a time.
    fn ask_for_more(&mut self, heard: &Heard, now: Now) {
        let total = heard.peers.filter(|_| heard.introducer && !self.settings.introducer);
        let told = self.mentions.told_by(&heard.key);
        if let Some(peer) = self.peers.get_mut(&heard.key)
            && let Some(total) = total
            // We are among them.
            && told.saturating_add(1) < total
            && peer.more_asked < MORE_ASKED_MAX
        {
            peer.more_at.get_or_insert(now.mono_ms + MORE_EVERY_MS);
        }
    }

    fn follow_hearsay(&mut self, heard: &Heard, now: Now) {
        for other in &heard.known_peers {
            if heard.introducer && other.key != self.settings.public_key {
                self.heard_of(heard.key, other, now);
            }
            let known = other.key == self.settings.public_key
                || self.peers.get(&other.key).is_some_and(|peer| peer.is_active(now));
            if let Claim::Address(address) = other.endpoint
                && !known
                && self.is_underlay(address.ip())
            {
                let control = self.control_of(address.ip());
                self.contacts.hear_of(other.key, control, now);
            }
        }
    }

    /// A goodbye is a hint: the peer gets a HELLO and is dropped if it does not answer.
    fn goodbye(&mut self, from: SocketAddr, opened: &Opened, now: Now, effects: &mut Vec<Effect>) {
        let Some(key) = read_goodbye(&opened.body) else { return };
        let fresh = opened.timestamp.abs_diff(now.unix) <= GOODBYE_SKEW_MAX_SECS;
        if !fresh || !self.is_from(&key, from.ip()) {
            return;
        }
        if !self.is_own_word(&key, from, opened, now) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.leaving_since = Some(now.mono_ms);
        peer.hello_at = Some(now.mono_ms);
        let hello = self.hello(self.control_of(from.ip()), now);
        effects.push(hello);
    }

    pub(super) fn is_from(&self, key: &PublicKey, host: IpAddr) -> bool {
        let peer = self.peers.get(key);
        peer.is_some_and(|peer| {
            peer.endpoint_address().is_some_and(|endpoint| endpoint.ip() == host)
                || peer.mesh_ips().any(|ip| ip == host)
        })
    }
}

/// Whether a node can have this address: in the mesh's prefix, and not the prefix itself.
pub(super) fn is_mesh_ipv6(prefix: [u8; 8], ip: Ipv6Addr) -> bool {
    let octets = ip.octets();
    octets.starts_with(&prefix) && octets[8..] != [0; 8]
}

impl From<Kind> for Via {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Announce => Self::Gossip,
            Kind::Hello | Kind::Reply | Kind::Goodbye | Kind::Offer | Kind::Start => Self::Dht,
        }
    }
}

/// What an honest sender says that a message was sent as, if it came this way under this label.
fn sent_as(via: Via, label: Option<Kind>) -> Option<Sent> {
    match (via, label) {
        (Via::Lan, _) => Some(Sent::Lan),
        (_, Some(Kind::Hello)) => Some(Sent::Hello),
        (_, Some(Kind::Reply)) => Some(Sent::Reply),
        (_, Some(Kind::Announce)) => Some(Sent::Announce),
        (_, Some(Kind::Goodbye | Kind::Offer | Kind::Start) | None) => None,
    }
}
