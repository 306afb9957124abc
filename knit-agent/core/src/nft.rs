//! The node's nftables table as text for `nft -f -`.
//!
//! ```text
//! guard      drops what comes to the mesh address, or straight to a container, from outside, and
//!            what claims to come from a container and does not
//! pre, out   lead published ports to containers, for neighbours and for the host itself
//! post       hides a container's address from another one that reaches it by a published port
//! ```
//!
//! Replacing the whole table and changing elements of its maps are each one transaction: a
//! connection sees the old rules or the new ones, never none.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::publish::{Difference, HostPort, PortMap, Scope, Target};

/// Our table's name, in family `ip`.
pub const TABLE: &str = "knit";
/// On each connection that came by a published port.
pub const MARK: u32 = 0x6b6e;

/// Everything that the table says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    pub mesh_ip: Option<Ipv4Addr>,
    /// Interfaces that may reach the mesh address and the containers.
    pub inside: BTreeSet<String>,
    /// Bridges with containers.
    pub bridges: BTreeSet<String>,
    /// Where containers live.
    pub subnets: BTreeSet<Ipv4Net>,
    pub ports: PortMap,
}

/// How long the kernel remembers a published connection that has ended.
///
/// Docker forgets a removed container's connections by their addresses and ports, in two steps: it
/// lists them, then deletes each. A client that uses its port again in between loses a connection
/// that leads to the container's successor. What is not remembered any more when the container is
/// removed cannot be mistaken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// For a second: less than the time for which a container is drained.
    Brief,
    /// As the kernel does by itself, for those that cannot do otherwise.
    Long,
}

/// Replaces the table, whatever it was, in one transaction.
pub fn replace(rules: &Rules, memory: Memory) -> String {
    let mut text = format!("add table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n");
    let mesh: Vec<String> = rules.mesh_ip.iter().map(ToString::to_string).collect();
    let addresses: BTreeSet<String> = literal_addresses(&rules.ports);
    set(&mut text, "mesh_addr", "ipv4_addr", &mesh);
    set(&mut text, "addresses", "ipv4_addr", &addresses.into_iter().collect::<Vec<_>>());
    set(&mut text, "inside", "ifname", &quoted(&rules.inside));
    set(&mut text, "bridges", "ifname", &quoted(&rules.bridges));
    for (name, key) in [
        ("mesh", "inet_proto . inet_service"),
        ("public", "inet_proto . inet_service"),
        ("addressed", "ipv4_addr . inet_proto . inet_service"),
    ] {
        map(&mut text, name, key, &rules.ports);
    }
    if memory == Memory::Brief {
        text.push_str(
            "  ct timeout brief {\n    protocol tcp\n    l3proto ip\n    \
             policy = { time_wait : 1, close : 1 }\n  }\n",
        );
    }
    chains(&mut text, rules, memory);
    text.push_str("}\n");
    text
}

/// Changes only elements of the maps, in one transaction; `None` when the set of literal
/// addresses changes too, which [`replace`] does.
pub fn change(have: &PortMap, want: &PortMap) -> Option<String> {
    if literal_addresses(have) != literal_addresses(want) {
        return None;
    }
    let Difference { gone, new } = crate::publish::difference(have, want);
    let mut text = String::new();
    for (verb, elements) in [("delete", &gone), ("add", &new)] {
        for (key, target) in elements {
            let _ = writeln!(
                text,
                "{verb} element ip {TABLE} {} {{ {} }}",
                map_of(key.scope),
                element(*key, *target)
            );
        }
    }
    Some(text)
}

/// Name of the map that a port stands in.
pub fn map_of(scope: Scope) -> &'static str {
    match scope {
        Scope::Mesh => "mesh",
        Scope::Public => "public",
        Scope::Address(_) => "addressed",
    }
}

fn literal_addresses(ports: &PortMap) -> BTreeSet<String> {
    ports
        .keys()
        .filter_map(|key| match key.scope {
            Scope::Address(address) => Some(address.to_string()),
            Scope::Mesh | Scope::Public => None,
        })
        .collect()
}

fn quoted(names: &BTreeSet<String>) -> Vec<String> {
    // A name with a quote in it cannot be written, and is no interface of ours.
    names
        .iter()
        .filter(|name| !name.contains(['"', '\\', '\n']))
        .map(|n| format!("\"{n}\""))
        .collect()
}

fn set(text: &mut String, name: &str, kind: &str, elements: &[String]) {
    let _ = writeln!(text, "  set {name} {{\n    type {kind}");
    elements_line(text, elements);
    text.push_str("  }\n");
}

fn map(text: &mut String, name: &str, key: &str, ports: &PortMap) {
    let _ = writeln!(text, "  map {name} {{\n    type {key} : ipv4_addr . inet_service");
    let own = ports.iter().filter(|(key, _)| map_of(key.scope) == name);
    elements_line(text, &own.map(|(key, target)| element(*key, *target)).collect::<Vec<_>>());
    text.push_str("  }\n");
}

fn elements_line(text: &mut String, elements: &[String]) {
    if !elements.is_empty() {
        let _ = writeln!(text, "    elements = {{ {} }}", elements.join(", "));
    }
}

fn element(key: HostPort, target: Target) -> String {
    let address = match key.scope {
        Scope::Address(address) => format!("{address} . "),
        Scope::Mesh | Scope::Public => String::new(),
    };
    format!("{address}{} . {} : {} . {}", key.protocol, key.port, target.address, target.port)
}

fn chains(text: &mut String, rules: &Rules, memory: Memory) {
    text.push_str(
        "  chain guard {\n    type filter hook prerouting priority mangle; policy accept;\n",
    );
    // What claims to come from a container does not come in from outside: masqueraded, it would
    // enter the mesh in this node's name.
    // (Its interfaces are written out: a set of them does not match this expression's type.)
    let bridges = quoted(&rules.bridges).join(", ");
    if !bridges.is_empty() {
        let _ = writeln!(text, "    iifname != @inside fib saddr oifname {{ {bridges} }} drop");
    }
    let subnets = rules.subnets.iter().map(|subnet| subnet.trunc().to_string());
    for guarded in ["@mesh_addr".to_owned()].into_iter().chain(subnets) {
        let _ = writeln!(
            text,
            "    iifname != @inside ip daddr {guarded} ct state != {{ established, related }} drop"
        );
    }
    text.push_str("  }\n  chain published {\n");
    let to_host = "fib daddr type local ip daddr != 127.0.0.0/8";
    if memory == Memory::Brief {
        for to in ["ip daddr @mesh_addr", "ip daddr @addresses", to_host] {
            let _ = writeln!(text, "    {to} meta l4proto tcp ct timeout set \"brief\"");
        }
    }
    let _ = write!(
        text,
        "    ip daddr @mesh_addr ct mark set {MARK:#x} dnat to meta l4proto . th dport map @mesh
    ip daddr @addresses ct mark set {MARK:#x} dnat to ip daddr . meta l4proto . th dport map @addressed
    {to_host} ct mark set {MARK:#x} dnat to meta l4proto . th dport map @public
  }}
  chain pre {{
    type nat hook prerouting priority dstnat - 5; policy accept;
    jump published
  }}
  chain out {{
    type nat hook output priority -105; policy accept;
    jump published
  }}
  chain post {{
    type nat hook postrouting priority srcnat - 5; policy accept;
    iifname @bridges ct mark {MARK:#x} masquerade
  }}
"
    );
}

#[cfg(test)]
mod tests {
    use knit_rpc::spec::Protocol;

    use super::*;

    fn ports(entries: &[(Scope, u16, u8)]) -> PortMap {
        entries
            .iter()
            .map(|(scope, port, host)| {
                let key = HostPort { scope: *scope, protocol: Protocol::Tcp, port: *port };
                (key, Target { address: Ipv4Addr::new(10, 208, 0, *host), port: 80 })
            })
            .collect()
    }

    #[test]
    fn a_swap_is_one_delete_and_one_add() {
        let text = change(&ports(&[(Scope::Mesh, 8080, 2)]), &ports(&[(Scope::Mesh, 8080, 3)]));
        assert_eq!(
            text.unwrap(),
            "delete element ip knit mesh { tcp . 8080 : 10.208.0.2 . 80 }\n\
             add element ip knit mesh { tcp . 8080 : 10.208.0.3 . 80 }\n"
        );
        assert_eq!(change(&PortMap::new(), &PortMap::new()).unwrap(), "");
    }

    #[test]
    fn a_new_literal_address_needs_the_whole_table() {
        let literal = ports(&[(Scope::Address(Ipv4Addr::new(192, 0, 2, 1)), 80, 2)]);
        assert_eq!(change(&PortMap::new(), &literal), None);
        assert!(change(&literal, &literal).is_some());
    }

    #[test]
    fn the_table_names_what_it_was_given() {
        let rules = Rules {
            mesh_ip: Some(Ipv4Addr::new(10, 45, 0, 7)),
            inside: ["wg0", "lo", "evil\"name"].map(str::to_owned).into(),
            bridges: ["knit0".to_owned()].into(),
            subnets: ["10.208.4.0/24", "10.77.0.0/16"].map(|one| one.parse().unwrap()).into(),
            ports: ports(&[
                (Scope::Mesh, 8080, 2),
                (Scope::Public, 9090, 3),
                (Scope::Address(Ipv4Addr::new(192, 0, 2, 1)), 53, 4),
            ]),
        };
        let text = replace(&rules, Memory::Brief);
        for expected in [
            "elements = { 10.45.0.7 }",
            "elements = { \"lo\", \"wg0\" }",
            "elements = { tcp . 8080 : 10.208.0.2 . 80 }",
            "elements = { tcp . 9090 : 10.208.0.3 . 80 }",
            "elements = { 192.0.2.1 . tcp . 53 : 10.208.0.4 . 80 }",
            "ip daddr 10.208.4.0/24 ct state != { established, related } drop",
            "ip daddr 10.77.0.0/16 ct state != { established, related } drop",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        assert!(!text.contains("evil"));
        let brief = "ip daddr @mesh_addr meta l4proto tcp ct timeout set \"brief\"";
        assert!(text.contains(brief) && text.contains("time_wait : 1"), "{text}");
        assert!(!replace(&rules, Memory::Long).contains("timeout"));
    }
}
