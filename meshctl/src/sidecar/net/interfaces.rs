//! Which interfaces lead to a LAN.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;

use nix::net::if_::InterfaceFlags;

/// One address of one interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LanAddress {
    pub(crate) interface: String,
    pub(crate) address: Ipv4Addr,
}

/// Every interface that can multicast to neighbours, with its first IPv4 address.
pub(crate) fn lan_addresses(mesh_interface: &str) -> io::Result<BTreeSet<LanAddress>> {
    let mut seen = BTreeSet::new();
    let mut found = BTreeSet::new();
    for entry in nix::ifaddrs::getifaddrs()? {
        let address = entry.address.and_then(|address| Some(address.as_sockaddr_in()?.ip()));
        let Some(address) = address else { continue };
        let name = entry.interface_name;
        if is_lan(&name, entry.flags, mesh_interface) && seen.insert(name.clone()) {
            found.insert(LanAddress { interface: name, address });
        }
    }
    Ok(found)
}

fn is_lan(name: &str, flags: InterfaceFlags, mesh_interface: &str) -> bool {
    let wanted =
        InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_MULTICAST;
    let unwanted = InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_POINTOPOINT;
    flags.contains(wanted)
        && !flags.intersects(unwanted)
        && name != mesh_interface
        && !is_container_bridge(name)
}

/// Docker's bridges and ours hold containers, not neighbours.
fn is_container_bridge(name: &str) -> bool {
    let docker_network = name
        .strip_prefix("br-")
        .is_some_and(|id| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    docker_network || name == "docker0" || name == "docker_gwbridge" || name.starts_with("knit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_bridges_the_mesh_and_loopback_are_no_lan() {
        let up = InterfaceFlags::IFF_UP
            | InterfaceFlags::IFF_RUNNING
            | InterfaceFlags::IFF_MULTICAST
            | InterfaceFlags::IFF_BROADCAST;
        for (name, flags, expected) in [
            ("eth0", up, true),
            ("br-lan", up, true),
            ("veth0", up, true),
            ("eth0", up - InterfaceFlags::IFF_RUNNING, false),
            ("lo", up | InterfaceFlags::IFF_LOOPBACK, false),
            ("wg0", up, false),
            ("tun3", up | InterfaceFlags::IFF_POINTOPOINT, false),
            ("docker0", up, false),
            ("br-0123456789ab", up, false),
            ("knit", up, false),
        ] {
            assert_eq!(is_lan(name, flags, "wg0"), expected, "{name} {flags:?}");
        }
    }
}
