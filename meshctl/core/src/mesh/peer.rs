//! One peer: what it said, what the device saw of it, and how it is reached.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::event::Now;
use super::membership::Standing;
use super::path::{PathState, TUNNEL_SILENT_MS};
use super::vitals::Vitals;
use super::{ACTIVE_MAX_MS, HANDSHAKE_LIVE_MS, HELLO_WHEN_SILENT_MS, NatType};
use crate::key::PublicKey;

/// An endpoint that never led to a handshake may be replaced by a lesser source after this long.
const ENDPOINT_TRIAL_MS: u64 = 15_000;

/// Announces come every 5 s: one that has not for so long has left the LAN.
const NEAR_MS: u64 = 60_000;

/// How a peer was met, in the Go daemon's words and with its ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Via {
    Cache = 20,
    /// Hearsay of an introducer, through which alone it is reached.
    Transitive = 40,
    Gossip = 65,
    /// Any unicast HELLO or REPLY; the DHT is what Go nodes find each other by.
    Dht = 70,
    /// A punch that an introducer arranged.
    Rendezvous = 90,
    Lan = 100,
}

impl Via {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Transitive => "dht-transitive",
            Self::Gossip => "gossip",
            Self::Dht => "dht",
            Self::Rendezvous => "dht-rendezvous",
            Self::Lan => "lan",
        }
    }
}

#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Peer {
    pub(super) key: PublicKey,
    pub(super) hostname: String,
    pub(super) mesh_ip: Option<IpAddr>,
    pub(super) mesh_ipv6: Option<Ipv6Addr>,
    endpoint: Option<Endpoint>,
    /// Whether it says of itself that it introduces and relays.
    pub(super) introducer: bool,
    pub(super) nat_type: Option<NatType>,
    pub(super) routes: Vec<IpNet>,
    pub(super) via: Vec<Via>,
    pub(super) heard_at: u64,
    pub(super) heard_unix: i64,
    /// The last message of its own, by our clock and by its own.
    pub(super) message_at: Option<u64>,
    pub(super) message_unix: i64,
    pub(super) handshake_at: Option<u64>,
    pub(super) hello_at: Option<u64>,
    pub(super) leaving_since: Option<u64>,
    /// Round trip of the last probe, in microseconds.
    pub(super) rtt_us: Option<u64>,
    /// What the device has counted, in bytes; `None` while it is not on the device.
    pub(super) traffic: Option<Traffic>,
    /// How far its clock is ahead of ours, by its last message.
    pub(super) clock_offset_secs: Option<i64>,
    /// Whether it is one of ours: a Go daemon's messages carry no extension.
    pub(super) is_knit: bool,
    pub(super) foreign_subnet_reported: bool,
    pub(super) boot: Option<u64>,
    pub(super) vitals: Vitals,
    /// What the authorities said of its last message, where one is known.
    pub(super) standing: Option<Standing>,
    pub(super) signed_at: Option<u64>,
    pub(super) path: PathState,
    /// When something last came through its own tunnel.
    pub(super) received_at: Option<u64>,
    /// When it was last heard on a LAN of ours.
    pub(super) lan_at: Option<u64>,
    /// Where its exchange was last heard from, outside the tunnel, and when.
    pub(super) control: Option<(SocketAddr, u64)>,
    pub(super) relays_ipv6: bool,
    /// When an introducer is asked for more peers, and how often it was.
    pub(super) more_at: Option<u64>,
    pub(super) more_asked: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    mesh_ips: (Option<IpAddr>, Option<Ipv6Addr>),
    endpoint: Option<SocketAddr>,
    hostname: String,
    routes: Vec<IpNet>,
}

/// What went through a peer's tunnel since the device was made, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Endpoint {
    address: SocketAddr,
    via: Via,
    since: u64,
    /// Nobody told of it: the device shook hands there.
    roamed: bool,
}

impl Peer {
    pub(super) fn new(key: PublicKey, now: Now) -> Self {
        Self {
            key,
            hostname: String::new(),
            mesh_ip: None,
            mesh_ipv6: None,
            endpoint: None,
            introducer: false,
            nat_type: None,
            routes: Vec::new(),
            via: Vec::new(),
            heard_at: now.mono_ms,
            heard_unix: now.unix,
            message_at: None,
            message_unix: i64::MIN,
            handshake_at: None,
            hello_at: None,
            leaving_since: None,
            rtt_us: None,
            traffic: None,
            clock_offset_secs: None,
            is_knit: false,
            foreign_subnet_reported: false,
            boot: None,
            vitals: Vitals::new(now),
            standing: None,
            signed_at: None,
            path: PathState::new(now),
            received_at: None,
            lan_at: None,
            control: None,
            relays_ipv6: false,
            more_at: None,
            more_asked: 0,
        }
    }

    pub(super) fn is_active(&self, now: Now) -> bool {
        now.mono_ms < self.heard_at + ACTIVE_MAX_MS
    }

    pub(super) fn is_live(&self, now: Now) -> bool {
        self.handshake_at.is_some_and(|at| now.mono_ms < at + HANDSHAKE_LIVE_MS)
    }

    /// Whether a member spoke under this key within five minutes.
    pub(super) fn signed_lately(&self, now: Now) -> bool {
        self.signed_at.is_some_and(|at| now.mono_ms < at + ACTIVE_MAX_MS)
    }

    /// Whether its direct tunnel brings nothing, although the handshake is young enough: it is cut, or
    /// the peer dropped its end of it.
    pub(super) fn is_tunnel_silent(&self, now: Now) -> bool {
        let last = self.received_at.max(self.handshake_at);
        last.is_some_and(|at| now.mono_ms >= at + TUNNEL_SILENT_MS)
            && self.rtt_us.is_none()
            && self.vitals.was_probed(now)
    }

    /// Whether it is on a LAN of ours: no NAT stands between us.
    pub(super) fn is_near(&self, now: Now) -> bool {
        self.lan_at.is_some_and(|at| now.mono_ms < at + NEAR_MS)
    }

    /// Whether nothing is known of it but what others say.
    pub(super) fn is_hearsay(&self) -> bool {
        let proven = self.message_at.is_some() || self.handshake_at.is_some();
        !proven && self.via.iter().all(|via| *via == Via::Transitive)
    }

    /// It has been heard, by whatever way.
    pub(super) fn heard(&mut self, now: Now) {
        self.heard_at = now.mono_ms;
        self.heard_unix = now.unix;
        self.vitals.is_alive(now);
    }

    /// What others are shown of it; a change is worth keeping.
    pub(super) fn shown(&self) -> Shown {
        Shown {
            mesh_ips: (self.mesh_ip, self.mesh_ipv6),
            endpoint: self.endpoint_address(),
            hostname: self.hostname.clone(),
            routes: self.routes.clone(),
        }
    }

    /// The mesh addresses that it claims.
    pub(super) fn mesh_ips(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.mesh_ip.filter(IpAddr::is_ipv4);
        v4.into_iter().chain(self.mesh_ipv6.map(IpAddr::V6))
    }

    /// Whether a message older than the last one counts. Otherwise a forged one from the future
    /// would silence its victim: it counts from where the tunnel really leads, and after a pause.
    pub(super) fn may_step_back(&self, host: IpAddr, now: Now) -> bool {
        let from_tunnel = self.endpoint_address().is_some_and(|endpoint| endpoint.ip() == host);
        let paused = self.message_at.is_none_or(|at| now.mono_ms >= at + HELLO_WHEN_SILENT_MS);
        paused || (from_tunnel && self.is_live(now))
    }

    pub(super) fn endpoint_address(&self) -> Option<SocketAddr> {
        self.endpoint.map(|endpoint| endpoint.address)
    }

    /// Where the endpoint is known from, in the words of `meshctl peers -o wide`.
    pub(super) fn endpoint_source(&self) -> Option<&'static str> {
        self.endpoint.map(|endpoint| match endpoint.via {
            _ if endpoint.roamed => "roamed",
            Via::Dht => "hello",
            Via::Transitive => "hearsay",
            Via::Rendezvous => "rendezvous",
            Via::Cache | Via::Gossip | Via::Lan => endpoint.via.as_str(),
        })
    }

    pub(super) fn met(&mut self, via: Via) {
        if !self.via.contains(&via) {
            self.via.push(via);
        }
    }

    /// Takes a claimed endpoint unless the present one is proven, better or still on trial.
    pub(super) fn offer_endpoint(&mut self, address: SocketAddr, via: Via, now: Now) -> bool {
        let offered = Endpoint { address, via, since: now.mono_ms, roamed: false };
        let is_live = self.is_live(now);
        match &mut self.endpoint {
            None => {
                self.endpoint = Some(offered);
                true
            }
            Some(current) if current.address == address => {
                current.via = current.via.max(via);
                false
            }
            Some(_) if is_live => false,
            Some(current)
                if via >= current.via || now.mono_ms > current.since + ENDPOINT_TRIAL_MS =>
            {
                self.endpoint = Some(offered);
                true
            }
            Some(_) => false,
        }
    }

    /// The device has shaken hands there: no claim is better than that.
    pub(super) fn roamed_to(&mut self, address: SocketAddr, now: Now) -> bool {
        if self.endpoint_address() == Some(address) {
            return false;
        }
        let via = self.endpoint.map_or(Via::Cache, |endpoint| endpoint.via);
        self.endpoint = Some(Endpoint { address, via, since: now.mono_ms, roamed: true });
        true
    }
}
