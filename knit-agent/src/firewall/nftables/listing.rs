//! `nft -j list table ip knit`, taken apart: elements of the maps, and everything else.

use std::net::Ipv4Addr;

use knit_agent_core::publish::{HostPort, PortMap, Scope, Target};
use knit_rpc::spec::Protocol;
use serde_json::Value;

/// The table as the kernel shows it.
#[derive(Debug)]
pub(super) struct Listing {
    /// All but the maps' elements and the numbers that the kernel gives out.
    pub(super) base: Value,
    pub(super) ports: PortMap,
}

pub(super) fn parse(text: &str) -> Result<Listing, serde_json::Error> {
    let mut base: Value = serde_json::from_str(text)?;
    let mut ports = PortMap::new();
    let objects = base.get_mut("nftables").and_then(Value::as_array_mut);
    for object in objects.into_iter().flatten().filter_map(Value::as_object_mut) {
        for (kind, body) in object {
            let Some(body) = body.as_object_mut() else { continue };
            body.remove("handle");
            body.remove("version");
            body.remove("release_name");
            if kind == "map" {
                let name = body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
                let elements = body.remove("elem").unwrap_or_default();
                for pair in elements.as_array().into_iter().flatten() {
                    match element(&name, pair) {
                        Some((key, target)) => _ = ports.insert(key, target),
                        // Nothing that we wrote: the table is not as we left it.
                        None => _ = body.insert("strange".to_owned(), pair.clone()),
                    }
                }
            }
        }
    }
    Ok(Listing { base, ports })
}

/// `[{"concat": ["tcp", 8080]}, {"concat": ["10.208.0.2", 80]}]`
fn element(map: &str, pair: &Value) -> Option<(HostPort, Target)> {
    let [key, value] = pair.as_array()?.as_slice() else { return None };
    let key = key.get("concat")?.as_array()?;
    let (scope, rest) = match map {
        "mesh" => (Scope::Mesh, &key[..]),
        "public" => (Scope::Public, &key[..]),
        "addressed" => (Scope::Address(address(key.first()?)?), &key[1..]),
        _ => return None,
    };
    let [protocol, host_port] = rest else { return None };
    let protocol = match protocol.as_str()? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let [target, target_port] = value.get("concat")?.as_array()?.as_slice() else { return None };
    let target = Target { address: address(target)?, port: number(target_port)? };
    Some((HostPort { scope, protocol, port: number(host_port)? }, target))
}

fn address(value: &Value) -> Option<Ipv4Addr> {
    value.as_str()?.parse().ok()
}

fn number(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"nftables": [
        {"metainfo": {"version": "1.0.6", "release_name": "x", "json_schema_version": 1}},
        {"table": {"family": "ip", "name": "knit", "handle": 7}},
        {"map": {"family": "ip", "name": "mesh", "table": "knit", "handle": 3,
          "type": ["inet_proto", "inet_service"], "map": ["ipv4_addr", "inet_service"],
          "elem": [[{"concat": ["tcp", 8080]}, {"concat": ["10.208.0.2", 80]}]]}},
        {"map": {"family": "ip", "name": "addressed", "table": "knit", "handle": 4,
          "type": [], "map": [],
          "elem": [[{"concat": ["192.0.2.1", "udp", 53]}, {"concat": ["10.208.0.3", 5353]}]]}}]}"#;

    #[test]
    fn elements_are_read_and_set_apart() {
        let listing = parse(TEXT).unwrap();
        let found: Vec<String> =
            listing.ports.iter().map(|(key, target)| format!("{key:?} {target:?}")).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        let other = parse(&TEXT.replace("8080", "9090").replace("\"handle\": 3", "\"handle\": 9"));
        assert_eq!(other.unwrap().base, listing.base);
        let changed = parse(&TEXT.replace("\"name\": \"knit\"", "\"name\": \"tink\""));
        assert_ne!(changed.unwrap().base, listing.base);
    }

    #[test]
    fn what_is_not_ours_to_read_is_passed_over() {
        assert!(parse("no json").is_err());
        assert!(parse("{}").unwrap().ports.is_empty());
        let strange = parse(&TEXT.replace("\"tcp\"", "\"icmp\"")).unwrap();
        assert_eq!(strange.ports.len(), 1);
        assert_ne!(strange.base, parse(TEXT).unwrap().base, "so that the table is written anew");
    }
}
