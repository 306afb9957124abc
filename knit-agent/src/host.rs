//! What the agent reads of its own host: interfaces, networks, sockets that listen.
//!
//! Invariant: everything is of the agent's own network namespace. `/sys/class/net` is not used,
//! because it shows the namespace of whoever mounted it.

pub mod listeners;
pub mod load;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use knit_agent_core::network::Route;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrIn;

/// An interface's IPv4 addresses, and whether it carries packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    pub addresses: BTreeSet<Ipv4Addr>,
    pub networks: BTreeSet<Ipv4Net>,
    /// Up, and with carrier: the address of a tunnel whose process died is still there.
    pub running: bool,
}

/// The host's interfaces by name; empty when the system does not say.
pub fn interfaces() -> BTreeMap<String, Interface> {
    let mut interfaces: BTreeMap<String, Interface> = BTreeMap::new();
    let Ok(addresses) = getifaddrs() else { return interfaces };
    for entry in addresses {
        let interface = interfaces.entry(entry.interface_name).or_default();
        interface.running |=
            entry.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING);
        let address = entry.address.as_ref().and_then(|a| a.as_sockaddr_in()).map(SockaddrIn::ip);
        let mask = entry.netmask.as_ref().and_then(|a| a.as_sockaddr_in()).map(SockaddrIn::ip);
        if let Some(address) = address {
            interface.addresses.insert(address);
            let network = mask.and_then(|mask| Ipv4Net::with_netmask(address, mask).ok());
            interface.networks.extend(network.map(|network| network.trunc()));
        }
    }
    interfaces
}

/// Addresses only, as the core looks at them.
pub fn addresses(interfaces: &BTreeMap<String, Interface>) -> BTreeMap<String, BTreeSet<Ipv4Addr>> {
    interfaces.iter().map(|(name, one)| (name.clone(), one.addresses.clone())).collect()
}

/// Networks that this host has addresses in or routes to, but for the default route: a container
/// subnet must overlap none of them. What lies within `own` is ours.
pub fn networks(own: Option<Ipv4Net>) -> Vec<Ipv4Net> {
    let networks: BTreeSet<Ipv4Net> = routes().into_iter().map(|route| route.network).collect();
    networks.into_iter().filter(|network| own.is_none_or(|own| !own.contains(network))).collect()
}

/// Where the host's addresses and routes lead, but for the default route and loopback.
pub fn routes() -> Vec<Route> {
    let mut routes = BTreeSet::new();
    for (interface, one) in interfaces() {
        routes.extend(
            one.networks.into_iter().map(|network| Route { network, interface: interface.clone() }),
        );
    }
    let text = std::fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    let named = listed(&text).map(|(interface, network)| Route { network, interface });
    routes.extend(named);
    routes
        .into_iter()
        .filter(|route| route.network.prefix_len() > 0 && !route.network.addr().is_loopback())
        .collect()
}

/// Interfaces and destinations of `/proc/net/route`: hexadecimal in the machine's own byte order.
fn listed(text: &str) -> impl Iterator<Item = (String, Ipv4Net)> + '_ {
    let hex = |field: &str| u32::from_str_radix(field, 16).ok().map(u32::to_ne_bytes);
    text.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let destination = Ipv4Addr::from(hex(fields.get(1)?)?);
        let mask = Ipv4Addr::from(hex(fields.get(7)?)?);
        let network = Ipv4Net::with_netmask(destination, mask).ok()?;
        Some(((*fields.first()?).to_owned(), network))
    })
}

/// First digits of the kernel's boot id: tells a fast reboot from a pause.
pub fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.chars().filter(char::is_ascii_hexdigit).take(8).collect()
}

/// The host's own name.
pub fn name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "node".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_runs_and_has_its_address() {
        let all = interfaces();
        let lo = all.get("lo").expect("every host has one");
        assert!(lo.addresses.contains(&Ipv4Addr::LOCALHOST) && lo.running);
    }

    #[test]
    fn routes_are_read_and_the_default_is_none_of_ours() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n\
            eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t0000000A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            broken line\n";
        if cfg!(target_endian = "little") {
            let found: Vec<String> =
                listed(text).map(|(name, to)| format!("{name} {to}")).collect();
            assert_eq!(found, ["eth0 0.0.0.0/0", "eth0 10.0.0.0/16"]);
        }
        assert!(networks(None).iter().all(|network| network.prefix_len() > 0));
    }
}
