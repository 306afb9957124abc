//! Which peer the user means: by name, by mesh address, or by the beginning of its key.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use knit_rpc::jsonrpc::{MeshDetail, MeshPeer};
use knit_runtime::terminal::printable;

/// Shorter beginnings of a key are more likely a mistyped name.
const KEY_PREFIX_MIN: usize = 4;

/// A node of the mesh and one of its mesh addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) ip: IpAddr,
    /// `None` when it is this very node.
    pub(super) peer: Option<MeshPeer>,
}

/// Finds the one node that `wanted` names; otherwise says what to do.
pub(super) fn find(wanted: &str, node: &MeshDetail, peers: &[MeshPeer]) -> Result<Target, String> {
    if let Ok(ip) = wanted.parse::<IpAddr>() {
        return by_address(ip, node, peers);
    }
    if node.status.hostname.as_deref() == Some(wanted) {
        return this_node(node);
    }
    let named = peers.iter().filter(|peer| peer.info.hostname == wanted);
    let mut found: Vec<&MeshPeer> = named.collect();
    if found.is_empty() && wanted.len() >= KEY_PREFIX_MIN {
        found = peers.iter().filter(|peer| peer.info.pubkey.starts_with(wanted)).collect();
    }
    match found.as_slice() {
        [] => Err(format!(
            "no node of this mesh is called {}: `meshctl peers` lists them",
            printable(wanted)
        )),
        [peer] => of_peer(peer, peer.info.mesh_ip.parse().ok()),
        several => {
            let each = several.iter().map(|peer| {
                format!("\n  {}  {}", printable(&peer.info.mesh_ip), printable(&peer.info.pubkey))
            });
            Err(format!(
                "{} nodes are called {}: name one by its mesh address or the beginning of its key{}",
                several.len(),
                printable(wanted),
                each.collect::<String>()
            ))
        }
    }
}

fn by_address(ip: IpAddr, node: &MeshDetail, peers: &[MeshPeer]) -> Result<Target, String> {
    let is = |text: &str| text.parse::<IpAddr>() == Ok(ip);
    if node.addresses.iter().any(|address| is(address)) {
        return Ok(Target { ip, ..this_node(node)? });
    }
    let has =
        |peer: &&MeshPeer| is(&peer.info.mesh_ip) || peer.mesh_ipv6.as_deref().is_some_and(is);
    if let Some(peer) = peers.iter().find(has) {
        return of_peer(peer, Some(ip));
    }
    let subnet = node.subnet.parse::<Ipv4Net>();
    Err(match (ip, subnet) {
        (IpAddr::V4(ip), Ok(subnet)) if !subnet.contains(&ip) => {
            format!("{ip} is not in the mesh, which is {subnet}: use `ping {ip}`")
        }
        _ => format!("no node of this mesh has the address {ip}: `meshctl peers` lists them"),
    })
}

fn of_peer(peer: &MeshPeer, ip: Option<IpAddr>) -> Result<Target, String> {
    let name = [&peer.info.hostname, &peer.info.mesh_ip, &peer.info.pubkey];
    let name = name.into_iter().find(|name| !name.is_empty()).cloned().unwrap_or_default();
    let ip = ip.ok_or_else(|| format!("{} has told no mesh address yet", printable(&name)))?;
    Ok(Target { name, ip, peer: Some(peer.clone()) })
}

fn this_node(node: &MeshDetail) -> Result<Target, String> {
    let ip: Result<Ipv4Addr, _> = node.status.mesh_ip.parse();
    let ip =
        ip.map_err(|_| "this node has no mesh address yet: see `meshctl status`".to_owned())?;
    Ok(Target { name: "this node".to_owned(), ip: ip.into(), peer: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use knit_rpc::jsonrpc::{MeshStatus, PeerInfo};

    #[test]
    fn a_node_is_meant_by_name_address_or_key() {
        let node = MeshDetail {
            status: MeshStatus {
                mesh_ip: "10.45.0.1".into(),
                hostname: Some("here".into()),
                ..MeshStatus::default()
            },
            addresses: vec!["10.45.0.1".into()],
            subnet: "10.45.0.0/16".into(),
            ..MeshDetail::default()
        };
        let peer = |name: &str, ip: &str, key: &str| MeshPeer {
            info: PeerInfo {
                pubkey: key.into(),
                hostname: name.into(),
                mesh_ip: ip.into(),
                ..PeerInfo::default()
            },
            mesh_ipv6: Some("fd00::2".into()).filter(|_| name == "fra"),
            ..MeshPeer::default()
        };
        let peers = [
            peer("fra", "10.45.0.2", "ABCD1="),
            peer("web", "10.45.0.3", "ABCE1="),
            peer("web", "10.45.0.4", "XYZ\u{1b}="),
            peer("mute", "", "MUTE1="),
        ];
        for (wanted, expected) in [
            ("fra", "fra 10.45.0.2"),
            ("10.45.0.3", "web 10.45.0.3"),
            ("fd00::2", "fra fd00::2"),
            ("ABCE", "web 10.45.0.3"),
            ("XYZ\u{1b}", "web 10.45.0.4"),
            ("here", "this node 10.45.0.1"),
            ("10.45.0.1", "this node 10.45.0.1"),
        ] {
            let found = find(wanted, &node, &peers).unwrap();
            assert_eq!(format!("{} {}", found.name, found.ip), expected);
        }
        for (wanted, expected) in [
            ("FRA", "no node of this mesh is called FRA: `meshctl peers` lists them"),
            ("ABC", "no node of this mesh is called ABC"),
            ("a\u{1b}b", "is called a\\u{1b}b"),
            ("web", "2 nodes are called web: name one by its mesh address"),
            ("web", "\n  10.45.0.4  XYZ\\u{1b}="),
            (
                "192.0.2.1",
                "192.0.2.1 is not in the mesh, which is 10.45.0.0/16: use `ping 192.0.2.1`",
            ),
            ("10.45.0.99", "no node of this mesh has the address 10.45.0.99"),
            ("mute", "mute has told no mesh address yet"),
        ] {
            let refused = find(wanted, &node, &peers).unwrap_err();
            assert!(refused.contains(expected), "{wanted}: {refused}");
        }
    }
}
