//! The mesh's state in the socket's words.

use knit_rpc::jsonrpc::{
    KeptOutPeer, LanDetail, LanInterface, MembershipStatus, MeshDetail, MeshPeer, MeshStatus,
    OwnCertificate, PeerCount, PeerInfo, PeerPath, PeerState, PeerStates, RefusedRoute,
    RotationStatus, SeedDetail, Signed, UsedRoute,
};
use meshctl_core::key::PublicKey;
use meshctl_core::mesh::{KeptOut, Member, Mesh, Now, PeerDetail, PeerState as State, PeerView};

use crate::sidecar::net::interfaces::LanAddress;
use crate::sidecar::wg::MTU;

pub(crate) const VERSION: &str = concat!("knit-mesh/", env!("CARGO_PKG_VERSION"));
/// A connection has at most one watch, so its number never varies.
pub(crate) const SUBSCRIPTION: u64 = 1;

pub(crate) fn peer_info(peer: &PeerView) -> PeerInfo {
    PeerInfo {
        pubkey: peer.key.to_string(),
        hostname: peer.hostname.clone(),
        mesh_ip: peer.mesh_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
        last_seen: rfc3339(peer.last_seen_unix),
        discovered_via: peer.discovered_via.iter().map(|via| (*via).to_owned()).collect(),
        routable_networks: peer.routes.iter().map(ToString::to_string).collect(),
        latency_ms: peer.latency_ms,
        signed: peer.standing.as_ref().map(|standing| match standing {
            Ok(member) => signed(Signed::SIGNED, Some(member)),
            Err(why) => signed(why.as_str(), None),
        }),
    }
}

pub(crate) fn kept_out(one: &KeptOut) -> KeptOutPeer {
    KeptOutPeer {
        pubkey: one.key.to_string(),
        hostname: one.hostname.clone(),
        from: one.from.map(|from| from.to_string()).unwrap_or_default(),
        last_seen: rfc3339(one.last_seen_unix),
        signed: signed(one.why.as_str(), one.member.as_deref()),
        why: one.why.explain().to_owned(),
    }
}

fn signed(state: &str, member: Option<&Member>) -> Signed {
    Signed {
        state: state.to_owned(),
        name: member.map(|member| member.terms.name.clone()),
        by: member.map(|member| member.by.short()),
        expires: member.map(|member| rfc3339(member.terms.expires)),
    }
}

/// How far the mesh has changed to a new secret; `None` when it does not.
pub(crate) fn rotation(mesh: &Mesh, now: Now) -> Option<RotationStatus> {
    let successor = mesh.successor()?;
    let behind = mesh.left_behind(now).into_iter();
    let shown = |(key, name): (PublicKey, String)| {
        if name.is_empty() { key.to_string() } else { name }
    };
    Some(RotationStatus { until: rfc3339(successor.until), behind: behind.map(shown).collect() })
}

/// What this node believes of authorities; `None` when it has nothing to do with any.
pub(crate) fn membership(mesh: &Mesh, now: Now) -> Option<MembershipStatus> {
    let trust = &mesh.settings().trust;
    let own = mesh.own_certificate();
    if trust.authorities.is_empty() && own.is_none() {
        return None;
    }
    let problem = mesh.own_refusal(now).map(|why| why.explain().to_owned());
    Some(MembershipStatus {
        authorities: trust.authorities.iter().map(ToString::to_string).collect(),
        required: trust.required,
        kept_out: u64::try_from(mesh.kept_out().count()).unwrap_or(u64::MAX),
        certificate: own.map(|own| OwnCertificate {
            name: own.terms().name.clone(),
            expires: rfc3339(own.terms().expires),
            problem,
        }),
    })
}

pub(crate) fn peer_count(active: usize, total: usize) -> PeerCount {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    PeerCount {
        active: number(active),
        total: number(total),
        dead: number(total.saturating_sub(active)),
    }
}

pub(crate) fn mesh_peer(peer: &PeerDetail) -> MeshPeer {
    let is_direct = peer.state == State::Up || peer.state == State::Silent;
    MeshPeer {
        info: peer_info(&peer.view),
        mesh_ipv6: peer.view.mesh_ipv6.map(|ip| ip.to_string()),
        state: match peer.state {
            State::Up => PeerState::Up,
            State::Silent => PeerState::Silent,
            State::Stale => PeerState::Stale,
            State::Never => PeerState::Never,
        },
        why: peer.why.clone(),
        path: match peer.view.relay {
            Some(_) => PeerPath::Relay,
            None if is_direct => PeerPath::Direct,
            None => PeerPath::None,
        },
        relay: peer.view.relay.map(|key| key.to_string()),
        handshake_age_ms: peer.handshake_age_ms,
        heard_ms_ago: Some(peer.heard_ms_ago),
        rx_bytes: peer.traffic.map(|traffic| traffic.rx_bytes),
        tx_bytes: peer.traffic.map(|traffic| traffic.tx_bytes),
        rtt_us: peer.rtt_us,
        endpoint_source: peer.endpoint_source.map(str::to_owned),
        clock_offset_secs: peer.clock_offset_secs,
        knit: Some(peer.is_knit),
        routes_used: peer.routes_used.iter().map(ToString::to_string).collect(),
        routes_refused: peer
            .routes_refused
            .iter()
            .map(|(route, why)| RefusedRoute { route: route.to_string(), why: why.clone() })
            .collect(),
    }
}

/// Everything of the local node, and what is not as it should be.
pub(crate) fn detail(status: MeshStatus, mesh: &Mesh, lan: &[LanAddress], now: Now) -> MeshDetail {
    let settings = mesh.settings();
    let peers = mesh.peer_details(now);
    let name_of = |key: &PublicKey| {
        let peer = peers.iter().find(|peer| peer.view.key == *key);
        let name = peer.map(|peer| peer.view.hostname.clone()).filter(|name| !name.is_empty());
        name.unwrap_or_else(|| key.to_string())
    };
    let used = mesh.route_owners();
    let used =
        used.iter().map(|(route, key)| UsedRoute { route: route.to_string(), via: name_of(key) });
    let seeds: Vec<SeedDetail> = mesh
        .seeds(now)
        .into_iter()
        .map(|seed| SeedDetail {
            address: seed.address.to_string(),
            answered_ms_ago: seed.answered_ms_ago,
        })
        .collect();
    let detail = MeshDetail {
        mesh_id: settings.keys.mesh_id(),
        subnet: settings.subnet.net().to_string(),
        addresses: std::iter::once(mesh.mesh_ip().to_string())
            .chain(mesh.mesh_ipv6().map(|ip| ip.to_string()))
            .collect(),
        mtu: MTU,
        listen_port: settings.listen_port,
        exchange_port: settings.keys.gossip_port,
        probe_port: settings.keys.probe_port(),
        public_address: mesh.observed_address().map(|ip| ip.to_string()),
        nat_type: mesh.nat_type().map(|nat| nat.as_str().to_owned()),
        lan: LanDetail {
            enabled: settings.lan,
            interfaces: lan
                .iter()
                .map(|lan| LanInterface {
                    name: lan.interface.clone(),
                    address: lan.address.to_string(),
                })
                .collect(),
        },
        seeds,
        peers: states(&peers),
        introducer: settings.introducer,
        routes_advertised: settings.routes.iter().map(ToString::to_string).collect(),
        accept_routes: settings.accept_routes.iter().map(ToString::to_string).collect(),
        routes_used: used.collect(),
        clash: mesh.clash(now).map(|clash| name_of(&clash.with)),
        problems: Vec::new(),
        status,
    };
    let refused = mesh.refused_routes().iter().map(|refused| {
        let (by, route, why) = (name_of(&refused.by), refused.route, refused.why);
        format!("peer {by} claims {route}, which is not used: {why}")
    });
    let problems = problems(&detail, &peers).into_iter().chain(refused).collect();
    MeshDetail { problems, ..detail }
}

fn states(peers: &[PeerDetail]) -> PeerStates {
    let mut states = PeerStates::default();
    for peer in peers {
        *match peer.state {
            State::Up => &mut states.up,
            State::Silent => &mut states.silent,
            State::Stale => &mut states.stale,
            State::Never => &mut states.never,
        } += 1;
    }
    let relayed = peers.iter().filter(|peer| peer.view.relay.is_some()).count();
    states.relayed = u64::try_from(relayed).unwrap_or(u64::MAX);
    states
}

fn problems(detail: &MeshDetail, peers: &[PeerDetail]) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(with) = &detail.clash {
        problems.push(format!("peer {with} claims this node's mesh address as its own"));
    }
    if detail.lan.enabled && detail.lan.interfaces.is_empty() {
        problems.push("LAN discovery is on and no interface leads to a LAN".to_owned());
    }
    let own = detail.status.membership.as_ref().and_then(|status| status.certificate.as_ref());
    if let Some(problem) = own.and_then(|own| own.problem.as_ref()) {
        problems.push(format!("this node's certificate does not count: {problem}"));
    }
    if let Some(rotation) = detail.status.rotation.as_ref().filter(|one| !one.behind.is_empty()) {
        let (behind, until) = (rotation.behind.join(", "), &rotation.until);
        problems.push(format!("without the new mesh secret, and refused after {until}: {behind}"));
    }
    let mute = detail.seeds.iter().filter(|seed| seed.answered_ms_ago.is_none());
    problems.extend(mute.map(|seed| {
        format!(
            "seed {} has not answered: is a node of this mesh there, and the port open?",
            seed.address
        )
    }));
    for peer in peers {
        let name = if peer.view.hostname.is_empty() {
            peer.view.key.to_string()
        } else {
            peer.view.hostname.clone()
        };
        problems.extend(peer.why.iter().map(|why| format!("peer {name}: {why}")));
    }
    problems
}

/// RFC 3339 in UTC with whole seconds, as a Go daemon in that zone writes it.
pub(crate) fn rfc3339(unix: i64) -> String {
    jiff::Timestamp::from_second(unix).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339() {
        for (unix, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_800_000_000, "2027-01-15T08:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(unix), expected);
        }
    }
}
