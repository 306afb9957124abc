//! The mesh as a person sees it: every peer with its state, and why one is not well.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::contacts::SeedView;
use super::counters::Counters;
use super::event::Now;
use super::peer::{Peer, Traffic};
use super::peer_table::PeerView;
use super::routes::Refused;
use super::{Mesh, PEER_CLOCK_WARN_SECS};
use crate::key::PublicKey;

/// How a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerState {
    /// Its tunnel stands, and something came from it lately.
    Up,
    /// Its tunnel stood a moment ago, and now it gives no sign of life.
    Silent,
    /// Its last handshake is too old to prove anything.
    Stale,
    /// There was no handshake yet.
    Never,
}

impl PeerState {
    pub const ALL: [Self; 4] = [Self::Up, Self::Silent, Self::Stale, Self::Never];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Silent => "silent",
            Self::Stale => "stale",
            Self::Never => "never",
        }
    }
}

/// All that is known of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerDetail {
    pub view: PeerView,
    pub state: PeerState,
    /// Why it is not well; `None` when it is.
    pub why: Option<String>,
    pub handshake_age_ms: Option<u64>,
    /// How long ago it last gave a sign of life, in milliseconds.
    pub heard_ms_ago: u64,
    pub traffic: Option<Traffic>,
    /// Round trip of the last probe, in microseconds.
    pub rtt_us: Option<u64>,
    /// Where its endpoint is known from.
    pub endpoint_source: Option<&'static str>,
    /// How far its clock is ahead of ours.
    pub clock_offset_secs: Option<i64>,
    /// Whether it runs our daemon and not the Go one.
    pub is_knit: bool,
    pub routes_used: Vec<Ipv4Net>,
    /// What it claims and what is not used, with the reason.
    pub routes_refused: Vec<(IpNet, String)>,
}

/// Who contests our mesh address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClashView {
    pub with: PublicKey,
    pub for_ms: u64,
}

impl Mesh {
    /// Every peer that is not forgotten, sorted by key.
    pub fn peer_details(&self, now: Now) -> Vec<PeerDetail> {
        self.peers.all().map(|peer| self.detail(peer, now)).collect()
    }

    pub fn seeds(&self, now: Now) -> Vec<SeedView> {
        self.contacts.seeds(now)
    }

    pub fn clash(&self, now: Now) -> Option<ClashView> {
        let (with, since) = self.clash?;
        Some(ClashView { with, for_ms: now.mono_ms.saturating_sub(since) })
    }

    /// The address that others see us at, when it is a public one.
    pub fn observed_address(&self) -> Option<IpAddr> {
        self.observed.address().map(IpAddr::V4)
    }

    /// The networks behind peers that are used, with the peer, sorted.
    pub fn route_owners(&self) -> Vec<(Ipv4Net, PublicKey)> {
        self.routes.owned().collect()
    }

    /// The networks that peers claim inside `--accept-routes` and that are not used.
    pub fn refused_routes(&self) -> &[Refused] {
        self.routes.refused()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Where the WireGuard of the peer with this mesh address is; a host behind a peer has none.
    pub fn endpoint_of_address(&self, ip: IpAddr) -> Option<SocketAddr> {
        let has =
            |peer: &&Peer| peer.mesh_ip == Some(ip) || peer.mesh_ipv6.map(IpAddr::V6) == Some(ip);
        let is_there = |peer: &&Peer| {
            let config = self.configured.get(&peer.key);
            config.is_some_and(|config| config.allowed_ips.contains(&IpNet::from(ip)))
        };
        self.peers.all().filter(has).find(is_there)?.endpoint_address()
    }

    fn detail(&self, peer: &Peer, now: Now) -> PeerDetail {
        let state = state_of(peer, now);
        let from_seed =
            peer.endpoint_address().is_some_and(|endpoint| self.contacts.is_seed(endpoint.ip()));
        let source = peer.endpoint_source();
        PeerDetail {
            view: PeerView::from(peer),
            state,
            why: self.why(peer, state, now),
            handshake_age_ms: peer.handshake_at.map(|at| now.mono_ms.saturating_sub(at)),
            heard_ms_ago: now.mono_ms.saturating_sub(peer.vitals.alive_at.max(peer.heard_at)),
            traffic: peer.traffic,
            rtt_us: peer.rtt_us,
            endpoint_source: if from_seed && source == Some("hello") {
                Some("seed")
            } else {
                source
            },
            clock_offset_secs: peer.clock_offset_secs,
            is_knit: peer.is_knit,
            routes_used: self.routes.of(&peer.key),
            routes_refused: self.refused_of(peer),
        }
    }

    fn refused_of(&self, peer: &Peer) -> Vec<(IpNet, String)> {
        let used = self.routes.of(&peer.key);
        let unused =
            peer.routes.iter().filter(|net| !used.iter().any(|used| IpNet::V4(*used) == **net));
        unused
            .map(|net| {
                let refused = self.routes.refused().iter();
                let mut refused = refused
                    .filter(|refused| refused.by == peer.key && IpNet::V4(refused.route) == *net);
                let why = match (net, refused.next()) {
                    (_, Some(refused)) => refused.why.to_string(),
                    (IpNet::V6(_), None) => "only IPv4 routes are used".to_owned(),
                    (IpNet::V4(_), None) => "it is not inside --accept-routes".to_owned(),
                };
                (*net, why)
            })
            .collect()
    }

    fn why(&self, peer: &Peer, state: PeerState, now: Now) -> Option<String> {
        if peer.leaving_since.is_some() {
            return Some("it said goodbye and is asked whether it is still there".to_owned());
        }
        let secs = |ms: u64| ms / 1000;
        let heard_secs = secs(now.mono_ms.saturating_sub(peer.vitals.alive_at));
        match state {
            PeerState::Up if peer.path.relay.is_some() => Some(self.why_relayed(peer)),
            PeerState::Up => {
                let offset = peer.clock_offset_secs.unwrap_or_default();
                (offset.unsigned_abs() > PEER_CLOCK_WARN_SECS).then(|| {
                    let direction = if offset > 0 { "ahead of" } else { "behind" };
                    format!(
                        "its clock is {} s {direction} this host's: set the time on one of them",
                        offset.unsigned_abs()
                    )
                })
            }
            PeerState::Silent if !peer.vitals.is_unheard(now) => Some(
                "it is heard, but nothing comes through its tunnel: is the way cut, or is this node kept out there?"
                    .to_owned(),
            ),
            PeerState::Silent => Some(format!(
                "nothing has come from it for {heard_secs} s, and it does not answer the probe"
            )),
            PeerState::Stale | PeerState::Never => Some(self.why_no_tunnel(peer, state, now)),
        }
    }

    fn why_relayed(&self, peer: &Peer) -> String {
        let through = peer.path.relay.and_then(|key| self.peers.get(&key));
        let through = through.map(|peer| peer.hostname.as_str()).unwrap_or_default();
        if self.settings.force_relay {
            return format!("reached through introducer {through}, as --force-relay asks for");
        }
        match peer.handshake_at {
            None => format!("reached through introducer {through}: no direct handshake yet"),
            Some(_) if peer.path.wants_relay() => {
                format!("reached through introducer {through}: the direct tunnel failed")
            }
            Some(_) => format!("reached through introducer {through}, as the peer asks for"),
        }
    }

    fn why_no_tunnel(&self, peer: &Peer, state: PeerState, now: Now) -> String {
        let Some(mesh_ip) = peer.mesh_ip else { return "it has told no mesh address".to_owned() };
        if mesh_ip == IpAddr::V4(self.ip) {
            return "it claims this node's mesh address: one of the two is about to move"
                .to_owned();
        }
        let is_host = matches!(mesh_ip, IpAddr::V4(ip) if self.settings.subnet.is_host(ip));
        if !is_host {
            let mesh = self.settings.subnet.net();
            return format!(
                "its mesh address {mesh_ip} lies outside {mesh}: give every node the same --mesh-subnet"
            );
        }
        let owner = self
            .configured
            .iter()
            .find(|(key, config)| **key != peer.key && IpAddr::V4(config.mesh_ip) == mesh_ip);
        if let Some((owner, _)) = owner {
            return format!("its mesh address {mesh_ip} is that of peer {owner} already");
        }
        let Some(endpoint) = peer.endpoint_address() else {
            return "where it can be reached is not known".to_owned();
        };
        if !peer.is_active(now) {
            let minutes = now.mono_ms.saturating_sub(peer.heard_at) / 60_000;
            return format!("it has not been heard for {minutes} min");
        }
        let what =
            if state == PeerState::Never { "no handshake yet" } else { "no handshake any more" };
        format!("{what} with {endpoint}: is UDP port {} open on the way there?", endpoint.port())
    }
}

fn state_of(peer: &Peer, now: Now) -> PeerState {
    if peer.path.relay.is_some() && peer.is_active(now) {
        let is_unheard = peer.vitals.is_unheard(now);
        return if is_unheard { PeerState::Silent } else { PeerState::Up };
    }
    match (peer.handshake_at, peer.is_live(now)) {
        (None, _) => PeerState::Never,
        (Some(_), _) if peer.vitals.is_unheard(now) && peer.is_active(now) => PeerState::Silent,
        (Some(_), true) if peer.is_tunnel_silent(now) => PeerState::Silent,
        (Some(_), true) => PeerState::Up,
        (Some(_), false) => PeerState::Stale,
    }
}
