//! Addresses, routes, paths and forwarding.

use std::collections::BTreeMap;

use super::super::facts::{Facts, PathFacts, Reached};
use super::Finding;
use crate::commands::seen::name;
use crate::sidecar::wg::MTU;

/// What WireGuard adds over IPv4: 20 of IP, 8 of UDP, 32 of its own.
const OVERHEAD_V4_BYTES: u32 = 60;

pub(super) fn multicast(facts: &Facts) -> Finding {
    let Ok(daemon) = &facts.daemon else {
        return Finding::skip("multicast", "whether a LAN is found is the daemon's to tell");
    };
    if !daemon.is_ours {
        return match facts.has_multicast_route {
            Some(true) => Finding::ok("multicast", "a route for 239.0.0.0/8 is there"),
            Some(false) => Finding::warn(
                "multicast",
                "without a default route, or one for 239.0.0.0/8, a Go daemon finds no LAN",
                "ip route add 239.0.0.0/8 dev IFACE",
            ),
            None => Finding::skip("multicast", "the routes could not be read"),
        };
    }
    let lan = &daemon.node.lan;
    match (lan.enabled, lan.interfaces.as_slice()) {
        (false, _) => Finding::ok("multicast", "LAN discovery is off; peers come from seeds"),
        (true, []) => Finding::warn(
            "multicast",
            "no interface leads to a LAN: none is up, can multicast and is no container bridge",
            "ip link set IFACE up multicast on, or use --seed and --no-lan-discovery",
        ),
        (true, found) => {
            let names: Vec<&str> = found.iter().map(|lan| lan.name.as_str()).collect();
            Finding::ok("multicast", format!("announced on {}", names.join(", ")))
        }
    }
}

pub(super) fn addresses(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let subnet = facts.mesh.as_ref().and_then(|mesh| mesh.subnet);
    if let Some(mesh) = subnet {
        // A wider network around the mesh's is no harm: the narrower route wins.
        let inside = facts.local_networks.iter().filter(|net| mesh.contains(*net));
        findings.extend(inside.map(|net| {
            Finding::fail(
                "addresses",
                format!("this host reaches {net} another way, and it lies inside the mesh's {mesh}"),
                "give that network (Docker's: default-address-pools) other addresses, or every node another --mesh-subnet",
            )
        }));
    }
    if let Ok(daemon) = &facts.daemon {
        if let Some(with) = &daemon.node.clash {
            findings.push(Finding::warn(
                "addresses",
                format!("{with} claims this node's mesh address"),
                "wait: one of the two moves; a Go daemon never does, and this node then will",
            ));
        }
        let mut owners: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for peer in daemon.peers.iter().filter(|peer| !peer.info.mesh_ip.is_empty()) {
            owners.entry(&peer.info.mesh_ip).or_default().push(name(peer));
        }
        findings.extend(owners.iter().filter(|(_, names)| names.len() > 1).map(|(ip, names)| {
            Finding::fail(
                "addresses",
                format!("{} all have the mesh address {ip}", names.join(", ")),
                "give each node a key of its own: a copied state directory makes twins; else a larger --mesh-subnet",
            )
        }));
    }
    if findings.is_empty() {
        findings.push(match subnet {
            Some(mesh) => Finding::ok("addresses", format!("nothing else is inside {mesh}")),
            None => Finding::skip("addresses", "the mesh's subnet is not known"),
        });
    }
    findings
}

pub(super) fn paths(facts: &Facts) -> Vec<Finding> {
    if facts.paths.is_empty() {
        return vec![Finding::skip("path mtu", "there is no peer with an IPv4 endpoint to ask")];
    }
    let bad: Vec<Finding> = facts.paths.iter().filter_map(path).collect();
    if !bad.is_empty() {
        return bad;
    }
    let asked = |path: &&PathFacts| path.inside == Reached::Whole || path.outside == Reached::Whole;
    match facts.paths.iter().filter(asked).count() {
        0 => vec![Finding::skip("path mtu", "no peer answers ICMP")],
        count => vec![Finding::ok("path mtu", format!("{MTU} bytes fit through to {count} peers"))],
    }
}

fn path(path: &PathFacts) -> Option<Finding> {
    let whole = MTU + OVERHEAD_V4_BYTES;
    let knows_less = path.mtu.filter(|mtu| u32::try_from(*mtu).is_ok_and(|mtu| mtu < whole));
    let peer = &path.peer;
    if let Some(mtu) = knows_less {
        let inner = mtu.saturating_sub(OVERHEAD_V4_BYTES as usize);
        return Some(Finding::warn(
            "path mtu",
            format!(
                "the path to {peer} takes {mtu} bytes, and the tunnel makes packets of {whole}: they are cut up"
            ),
            format!("ip link set {MTU_OF} mtu {inner}, or raise the MTU of the way there"),
        ));
    }
    if path.inside == Reached::ShortOnly {
        return Some(Finding::fail(
            "path mtu",
            format!(
                "short packets reach {peer} through the tunnel, and those of {MTU} bytes do not"
            ),
            "let ICMP \"fragmentation needed\" through on the way, or lower the MTU of the mesh interface on both",
        ));
    }
    if path.outside == Reached::ShortOnly {
        return Some(Finding::warn(
            "path mtu",
            format!("short packets reach the host of {peer}, and those of {whole} bytes do not"),
            "let ICMP \"fragmentation needed\" through on the way, or raise its MTU to 1500",
        ));
    }
    None
}

/// What stands for the mesh interface in a command.
const MTU_OF: &str = "IFACE";

pub(super) fn forwarding(facts: &Facts) -> Finding {
    let needs = forwards(facts);
    match (facts.ip_forward, needs, facts.has_docker) {
        (None, _, _) => Finding::skip("forwarding", "net.ipv4.ip_forward could not be read"),
        (Some(true), _, _) => Finding::ok("forwarding", "net.ipv4.ip_forward is on"),
        (Some(false), None, false) => {
            Finding::ok("forwarding", "net.ipv4.ip_forward is off, and nothing needs it")
        }
        (Some(false), Some(what), _) => Finding::fail(
            "forwarding",
            format!("this node {what} and does not forward packets"),
            "sysctl -w net.ipv4.ip_forward=1",
        ),
        (Some(false), None, true) => Finding::warn(
            "forwarding",
            "net.ipv4.ip_forward is off: no published port of a container is reached",
            "sysctl -w net.ipv4.ip_forward=1, or restart Docker, which sets it",
        ),
    }
}

/// What this node has told others that it would do and that needs forwarding.
pub(super) fn forwards(facts: &Facts) -> Option<String> {
    let node = &facts.daemon.as_ref().ok()?.node;
    if !node.routes_advertised.is_empty() {
        return Some(format!("advertises {}", node.routes_advertised.join(", ")));
    }
    node.introducer.then(|| "relays as an introducer".to_owned())
}

pub(super) fn reverse_path(facts: &Facts) -> Finding {
    let uses_routes = facts.daemon.as_ref().is_ok_and(|daemon| !daemon.node.routes_used.is_empty());
    match facts.rp_filter {
        None => Finding::skip("reverse path", "there is no mesh interface to ask for its filter"),
        Some(1) if uses_routes => Finding::warn(
            "reverse path",
            "the strict filter drops answers that come by another way than they would go",
            format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", facts.interface),
        ),
        Some(_) => Finding::ok("reverse path", "the filter is no obstacle"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Daemon, MeshFacts, Unanswered};
    use super::super::Verdict;
    use super::*;
    use knit_rpc::jsonrpc::{LanDetail, LanInterface, MeshDetail, MeshPeer, PeerInfo, UsedRoute};

    fn with_node(node: MeshDetail) -> Facts {
        Facts {
            daemon: Ok(Daemon { node, is_ours: true, ..Daemon::default() }),
            ..Facts::default()
        }
    }

    #[test]
    fn a_path_is_judged_by_the_longest_packet() {
        let facts = |outside, inside, mtu| Facts {
            paths: vec![PathFacts { peer: "b".into(), outside, inside, mtu }],
            ..Facts::default()
        };
        for (outside, inside, mtu, expected) in [
            (Reached::Whole, Reached::Whole, Some(1500), Verdict::Ok),
            (Reached::Mute, Reached::Whole, Some(1480), Verdict::Ok),
            (Reached::Mute, Reached::Mute, None, Verdict::Skip),
            (Reached::Whole, Reached::Whole, Some(1400), Verdict::Warn),
            (Reached::ShortOnly, Reached::Whole, Some(1500), Verdict::Warn),
            (Reached::ShortOnly, Reached::ShortOnly, Some(1500), Verdict::Fail),
        ] {
            let findings = paths(&facts(outside, inside, mtu));
            assert_eq!(findings[0].verdict, expected, "{findings:?}");
        }
    }

    #[test]
    fn networks_inside_the_mesh_and_twins_are_clashes() {
        let mesh = MeshFacts { subnet: "10.45.0.0/16".parse().ok(), ..MeshFacts::default() };
        let peer = |name: &str, ip: &str| MeshPeer {
            info: PeerInfo { hostname: name.into(), mesh_ip: ip.into(), ..PeerInfo::default() },
            ..MeshPeer::default()
        };
        let twins =
            vec![peer("a", "10.45.0.9"), peer("b", "10.45.0.9"), peer("c", ""), peer("d", "")];
        for (networks, peers, expected) in [
            (vec!["192.168.1.0/24", "10.0.0.0/8"], vec![], Verdict::Ok),
            (vec!["10.45.7.0/24"], vec![], Verdict::Fail),
            (vec!["10.45.0.0/16"], vec![], Verdict::Fail),
            (vec![], twins, Verdict::Fail),
        ] {
            let facts = Facts {
                mesh: Some(mesh.clone()),
                local_networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
                daemon: Ok(Daemon { peers, ..Daemon::default() }),
                ..Facts::default()
            };
            assert_eq!(addresses(&facts)[0].verdict, expected, "{networks:?}");
        }
    }

    #[test]
    fn forwarding_and_filters_matter_to_those_who_route() {
        let advertises = || {
            with_node(MeshDetail {
                routes_advertised: vec!["10.9.0.0/24".into()],
                ..MeshDetail::default()
            })
        };
        let idle = || with_node(MeshDetail::default());
        for (facts, forward, docker, expected) in [
            (idle(), Some(false), false, Verdict::Ok),
            (idle(), Some(false), true, Verdict::Warn),
            (advertises(), Some(false), false, Verdict::Fail),
            (advertises(), Some(true), false, Verdict::Ok),
            (idle(), None, false, Verdict::Skip),
        ] {
            let facts = Facts { ip_forward: forward, has_docker: docker, ..facts };
            assert_eq!(forwarding(&facts).verdict, expected, "{forward:?} {docker}");
        }
        let uses = with_node(MeshDetail {
            routes_used: vec![UsedRoute::default()],
            ..MeshDetail::default()
        });
        for (facts, filter, expected) in [
            (uses.clone(), Some(1), Verdict::Warn),
            (uses, Some(2), Verdict::Ok),
            (idle(), Some(1), Verdict::Ok),
            (idle(), None, Verdict::Skip),
        ] {
            assert_eq!(reverse_path(&Facts { rp_filter: filter, ..facts }).verdict, expected);
        }
    }

    #[test]
    fn a_lan_is_wanted_where_it_is_looked_for() {
        let lan = |enabled, names: &[&str]| {
            let interface =
                |name: &&str| LanInterface { name: (*name).into(), address: String::new() };
            let interfaces = names.iter().map(interface).collect();
            with_node(MeshDetail {
                lan: LanDetail { enabled, interfaces },
                ..MeshDetail::default()
            })
        };
        let mut go = lan(false, &[]);
        go.has_multicast_route = Some(false);
        if let Ok(daemon) = &mut go.daemon {
            daemon.is_ours = false;
        }
        for (facts, expected) in [
            (lan(true, &["eth0"]), Verdict::Ok),
            (lan(true, &[]), Verdict::Warn),
            (lan(false, &[]), Verdict::Ok),
            (go, Verdict::Warn),
            (Facts { daemon: Err(Unanswered::default()), ..Facts::default() }, Verdict::Skip),
        ] {
            assert_eq!(multicast(&facts).verdict, expected);
        }
    }
}
