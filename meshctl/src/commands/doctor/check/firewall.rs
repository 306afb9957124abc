//! Whether this host's own rules let the mesh in.

use meshctl_core::derive::MULTICAST_PORT;

use super::super::facts::{Facts, Transport};
use super::Finding;
use super::network::forwards;
use super::ruleset::{Hook, Packet, Passage, passage};

pub(super) fn open_ports(facts: &Facts) -> Vec<Finding> {
    let Some(ruleset) = &facts.firewall.ruleset else {
        let seen = "the rules could not be read: that needs root and `nft`";
        return vec![Finding::skip("firewall", seen)];
    };
    let Some(mesh) = &facts.mesh else {
        return vec![Finding::skip("firewall", "the mesh's ports are not known")];
    };
    let mut wanted = vec![(mesh.listen_port, "WireGuard"), (mesh.exchange_port, "exchange")];
    if mesh.lan {
        wanted.push((MULTICAST_PORT, "LAN discovery"));
    }
    wanted.retain(|(port, _)| *port > 0);
    let mut findings = Vec::new();
    for (port, what) in &wanted {
        let packet =
            Packet { transport: Transport::Udp, port: *port, mesh_interface: &facts.interface };
        let fix = format!(
            "nft insert rule TABLE CHAIN udp dport {port} accept (ufw: ufw allow {port}/udp)"
        );
        match passage(ruleset, Hook::Input, &packet) {
            Passage::Open => {}
            Passage::Closed(rule) => findings.push(Finding::fail(
                "firewall",
                format!("UDP port {port} ({what}) is closed by {rule}"),
                fix,
            )),
            Passage::Unclear(rule) => findings.push(Finding::warn(
                "firewall",
                format!("UDP port {port} ({what}) may be closed by {rule}"),
                fix,
            )),
        }
    }
    if findings.is_empty() {
        let ports: Vec<String> = wanted.iter().map(|(port, _)| port.to_string()).collect();
        findings.push(Finding::ok("firewall", format!("UDP {} let in", ports.join(", "))));
    }
    if facts.firewall.has_legacy {
        findings.push(Finding::warn(
            "firewall",
            "rules of the old iptables exist too, and were not read",
            "iptables-legacy -S",
        ));
    }
    findings
}

/// Docker's FORWARD policy drops what the mesh forwards.
pub(super) fn docker(facts: &Facts) -> Option<Finding> {
    let ruleset = facts.firewall.ruleset.as_ref()?;
    let what = forwards(facts)?;
    let name = &facts.interface;
    // TCP to any port: what lies behind the node is not known here.
    let packet = Packet { transport: Transport::Tcp, port: 0, mesh_interface: name };
    let fix = format!(
        "iptables -I DOCKER-USER -i {name} -j ACCEPT (without Docker: iptables -I FORWARD …)"
    );
    Some(match passage(ruleset, Hook::Forward, &packet) {
        Passage::Open => Finding::ok("forward rules", "forwarded packets are let through"),
        Passage::Closed(rule) => Finding::fail(
            "forward rules",
            format!("this node {what}, and what it forwards is dropped by {rule}"),
            fix,
        ),
        Passage::Unclear(rule) => Finding::warn(
            "forward rules",
            format!("this node {what}, and what it forwards may be dropped by {rule}"),
            fix,
        ),
    })
}
