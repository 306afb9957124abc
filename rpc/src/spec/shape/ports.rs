//! `ports`.

use super::super::reader::{Fields, Reader};
use super::super::tree::Node;
use super::super::{HostIp, PortSpec, Protocol};
use super::leaf::parsed;

pub(super) fn read(reader: &mut Reader, fields: &mut Fields<'_>) -> Vec<PortSpec> {
    let Some((path, node)) = fields.take("ports") else { return Vec::new() };
    let items = reader.list(node, &path);
    items.into_iter().filter_map(|(path, item)| port(reader, item, &path)).collect()
}

fn port(reader: &mut Reader, node: &Node, path: &str) -> Option<PortSpec> {
    let mut fields = reader.map(node, path)?;
    let container_port = fields
        .require(reader, "container_port", "the port that the container listens on")
        .and_then(|(path, node)| number(reader, node, &path));
    let host_port = match fields.take("host_port") {
        Some((path, node)) => number(reader, node, &path),
        None => container_port,
    };
    let protocol = match fields.take("protocol") {
        None => Some(Protocol::default()),
        Some((path, node)) => parsed(reader, node, &path, |text| match &*text.to_lowercase() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            _ => Err(format!("must be tcp or udp, not \"{text}\"")),
        }),
    };
    let host_ip = match fields.take("host_ip") {
        None => Some(HostIp::default()),
        Some((path, node)) => parsed(reader, node, &path, |text| HostIp::parse(&text)),
    };
    reader.finish(&fields);
    Some(PortSpec {
        container_port: container_port?,
        host_port: host_port?,
        protocol: protocol?,
        host_ip: host_ip?,
    })
}

/// A port's number.
pub(super) fn number(reader: &mut Reader, node: &Node, path: &str) -> Option<u16> {
    reader.number(node, path, 1..=u32::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
}
