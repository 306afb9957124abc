//! Which of the host's own processes listen on which port: `/proc/thread-self/net/{tcp,tcp6,udp,udp6}`
//! for the sockets, `/proc/*/fd` for whose they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use knit_agent_core::observed::Listener;
use knit_rpc::spec::Protocol;

const TABLES: [(&str, Protocol); 4] = [
    ("tcp", Protocol::Tcp),
    ("tcp6", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("udp6", Protocol::Udp),
];
/// `TCP_LISTEN`; an unconnected UDP socket is in state 7.
const LISTENING: [&str; 2] = ["0A", "07"];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Socket {
    protocol: Protocol,
    address: Option<Ipv4Addr>,
    port: u16,
    inode: u64,
}

/// What listens on any of `ports` in this network namespace, each with its process.
pub fn on(ports: &BTreeSet<(Protocol, u16)>) -> Vec<Listener> {
    let sockets: Vec<Socket> = TABLES
        .iter()
        .flat_map(|(table, protocol)| {
            let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}"));
            parse(&text.unwrap_or_default(), *protocol)
        })
        .filter(|socket| ports.contains(&(socket.protocol, socket.port)))
        .collect();
    if sockets.is_empty() {
        return Vec::new();
    }
    let owners = owners(&sockets.iter().map(|socket| socket.inode).collect());
    let mut listeners: Vec<Listener> = sockets
        .into_iter()
        .map(|socket| Listener {
            protocol: socket.protocol,
            address: socket.address,
            port: socket.port,
            process: owners
                .get(&socket.inode)
                .cloned()
                .unwrap_or_else(|| "a process of the host".to_owned()),
        })
        .collect();
    listeners.sort();
    listeners.dedup();
    listeners
}

fn parse(table: &str, protocol: Protocol) -> Vec<Socket> {
    let parse_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = fields.get(1)?.split_once(':')?;
        // A UDP socket with a peer talks to that peer only.
        if !LISTENING.contains(fields.get(3)?) || !fields.get(2)?.ends_with(":0000") {
            return None;
        }
        let address = match local_address(address)? {
            address if address.is_unspecified() => None,
            IpAddr::V4(address) => Some(address),
            // No IPv4 packet reaches it.
            IpAddr::V6(_) => return None,
        };
        Some(Socket {
            protocol,
            address,
            port: u16::from_str_radix(port, 16).ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    };
    table.lines().skip(1).filter_map(parse_line).collect()
}

/// The address in the kernel's spelling: words of hexadecimal digits in the machine's byte order.
fn local_address(hex_text: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = hex_text.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    if hex_text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let mut bytes = [0; 16];
    for index in 0..4 {
        bytes[index * 4..index * 4 + 4].copy_from_slice(&word(index)?);
    }
    Some(IpAddr::from(bytes).to_canonical())
}

/// Name and pid of the processes that hold these sockets, in our own network namespace only: a
/// container's process may hold a socket of the same number elsewhere.
fn owners(inodes: &BTreeSet<u64>) -> BTreeMap<u64, String> {
    let mut owners = BTreeMap::new();
    let Ok(own_namespace) = std::fs::read_link("/proc/thread-self/ns/net") else { return owners };
    let Ok(processes) = std::fs::read_dir("/proc") else { return owners };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        let path = process.path();
        if std::fs::read_link(path.join("ns/net")).ok().as_ref() != Some(&own_namespace) {
            continue;
        }
        let Ok(descriptors) = std::fs::read_dir(path.join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Some(inode) = socket_inode(&descriptor.path()) else { continue };
            if inodes.contains(&inode) {
                let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
                owners.entry(inode).or_insert_with(|| format!("{} (pid {pid})", name.trim()));
            }
        }
        if owners.len() == inodes.len() {
            break;
        }
    }
    owners
}

fn socket_inode(descriptor: &std::path::Path) -> Option<u64> {
    let target = std::fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners_on(protocol: Protocol, port: u16) -> Vec<Listener> {
        on(&BTreeSet::from([(protocol, port)]))
    }

    #[test]
    fn a_listener_is_found_with_its_process() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = listeners_on(Protocol::Tcp, port);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].address, Some(Ipv4Addr::LOCALHOST));
        assert!(found[0].process.contains(&format!("(pid {})", std::process::id())), "{found:?}");
        assert!(listeners_on(Protocol::Udp, port).is_empty());
    }

    #[test]
    fn one_that_listens_on_both_families_stands_for_every_address() {
        let Ok(socket) = std::net::TcpListener::bind("[::]:0") else { return };
        let found = listeners_on(Protocol::Tcp, socket.local_addr().unwrap().port());
        assert_eq!(found[0].address, None, "{found:?}");
    }

    #[test]
    fn a_udp_socket_counts_and_a_connection_does_not() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(listeners_on(Protocol::Udp, port).len(), 1);
        socket.connect("127.0.0.1:9").unwrap();
        assert!(listeners_on(Protocol::Udp, port).is_empty());
    }

    #[test]
    fn rubbish_is_passed_over() {
        assert!(parse("head\nx\n 0: zz:zz 00:0000 0A\n", Protocol::Tcp).is_empty());
    }
}
