//! Who listens on which port, by the kernel's tables.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::facts::{Bound, Transport};

const TABLES: [(&str, Transport); 4] = [
    ("/proc/net/udp", Transport::Udp),
    ("/proc/net/udp6", Transport::Udp),
    ("/proc/net/tcp", Transport::Tcp),
    ("/proc/net/tcp6", Transport::Tcp),
];
/// TCP sockets in other states listen to nobody.
const LISTEN: &str = "0A";

pub(super) fn bound() -> Vec<Bound> {
    let read = TABLES
        .iter()
        .filter_map(|(path, transport)| Some((*transport, std::fs::read_to_string(path).ok()?)));
    let sockets: Vec<(Transport, u16, u64)> =
        read.flat_map(|(transport, table)| parse(transport, &table)).collect();
    let owners = owners();
    let owner = |inode: u64| match inode {
        0 => Some("the kernel".to_owned()),
        inode => owners.get(&inode).cloned(),
    };
    sockets
        .into_iter()
        .map(|(transport, port, inode)| Bound { transport, port, owner: owner(inode) })
        .collect()
}

/// Transport, port and inode of each listening socket of a table.
fn parse(transport: Transport, table: &str) -> Vec<(Transport, u16, u64)> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        let listens = transport == Transport::Udp || *state == LISTEN;
        listens.then_some((transport, port, inode.parse().ok()?))
    });
    rows.collect()
}

/// `name (pid)` of the process that has each socket, as far as this user may know.
fn owners() -> BTreeMap<u64, String> {
    let mut owners = BTreeMap::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return owners };
    for process in processes.filter_map(Result::ok).map(|entry| entry.path()) {
        let Some(pid) = process.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(files) = std::fs::read_dir(process.join("fd")) else { continue };
        let sockets = files.filter_map(|file| socket_of(&file.ok()?.path()));
        let sockets: Vec<u64> = sockets.collect();
        if sockets.is_empty() {
            continue;
        }
        let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
        let owner = format!("{} ({pid})", name.trim());
        owners.extend(sockets.into_iter().map(|inode| (inode, owner.clone())));
    }
    owners
}

fn socket_of(file: &Path) -> Option<u64> {
    let target = std::fs::read_link(file).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 x\n\
            1: 0100007F:1F91 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 x\n\
            rubbish\n";
        assert_eq!(parse(Transport::Tcp, table), [(Transport::Tcp, 8080, 4711)]);
        let both = [(Transport::Udp, 8080, 4711), (Transport::Udp, 8081, 4712)];
        assert_eq!(parse(Transport::Udp, table), both);
    }
}
