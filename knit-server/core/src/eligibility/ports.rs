//! Which published ports cannot both be had.

use std::net::Ipv4Addr;

use knit_rpc::spec::{HostIp, PortSpec};

/// Whether two published ports cannot both be had on one host.
pub fn ports_clash(a: &PortSpec, b: &PortSpec, mesh_ip: Option<Ipv4Addr>) -> bool {
    a.host_port == b.host_port
        && a.protocol == b.protocol
        && addresses_overlap(&a.host_ip, &b.host_ip, mesh_ip)
}

/// Whether two ways to say where a port is published share an address.
pub(super) fn addresses_overlap(a: &HostIp, b: &HostIp, mesh_ip: Option<Ipv4Addr>) -> bool {
    let literal = |host_ip: &HostIp| match host_ip {
        HostIp::Mesh => mesh_ip,
        HostIp::Loopback => Some(Ipv4Addr::LOCALHOST),
        HostIp::Literal(address) => Some(*address),
        HostIp::Public | HostIp::Interface(_) => None,
    };
    if a == b {
        return true;
    }
    match (a, b) {
        (HostIp::Interface(_), HostIp::Interface(_)) => false,
        // An interface's addresses are known to its host only; loopback and mesh are others.
        (HostIp::Public, _)
        | (_, HostIp::Public)
        | (HostIp::Interface(_), HostIp::Literal(_))
        | (HostIp::Literal(_), HostIp::Interface(_)) => true,
        _ => matches!((literal(a), literal(b)), (Some(a), Some(b)) if a == b),
    }
}
