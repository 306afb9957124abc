//! Reads, asks and pings: the only part of the doctor that touches the host.

mod paths;
mod ports;

use std::path::{Path, PathBuf};
use std::time::Duration;

use knit_link::mesh::{MeshClient, MeshError, find_socket};
use meshctl_core::derive::MeshKeys;
use meshctl_core::message::DEFAULT_LISTEN_PORT;
use meshctl_core::secret::Secret;
use std::os::unix::fs::PermissionsExt as _;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::super::seen;
use super::facts::{Daemon, Facts, FileMode, Firewall, MeshFacts, Unanswered};
use crate::cli::{DoctorArgs, interface_name};
use crate::sidecar::wg::Links;

/// Bit of `CAP_NET_ADMIN` in `CapEff`.
const CAP_NET_ADMIN: u32 = 12;
const NFT_MAX: Duration = Duration::from_secs(5);
const DEFAULT_INTERFACE: &str = "wg0";

pub(super) async fn gather(args: &DoctorArgs) -> Facts {
    let socket = find_socket(args.show.socket.mesh_socket.as_deref());
    let asked = daemon(&MeshClient::new(&socket)).await;
    let daemon = asked.map_err(|error| Unanswered {
        why: error.to_string(),
        is_denied: matches!(error, MeshError::Denied { .. }),
    });
    let said = daemon.as_ref().ok().map(|daemon| daemon.node.status.interface.as_str());
    // The daemon's word names a file below, so it must be a name.
    let interface = said.and_then(|name| interface_name(name).ok());
    let interface = interface.unwrap_or_else(|| DEFAULT_INTERFACE.to_owned());
    let secret = args.secret_file.as_deref().and_then(secret);
    let mesh = mesh(daemon.as_ref().ok(), secret.as_ref());
    let is_admin = capabilities().is_some_and(|bits| bits & (1 << CAP_NET_ADMIN) != 0);
    let links = Links::connect().ok();
    let mut facts = Facts {
        is_admin,
        has_tun: Path::new("/dev/net/tun").exists(),
        mesh,
        bound: ports::bound(),
        firewall: firewall(is_admin).await,
        ip_forward: word("/proc/sys/net/ipv4/ip_forward").map(|word| word != "0"),
        has_docker: Path::new("/sys/class/net/docker0").exists(),
        has_multicast_route: word("/proc/net/route").map(|table| leads_to_groups(&table)),
        rp_filter: rp_filter(&interface),
        files: files(args, &interface),
        is_secret_weak: secret.as_ref().map(Secret::is_weak),
        socket,
        daemon,
        interface,
        ..Facts::default()
    };
    if let Some(links) = links {
        facts.has_interface = links.find(&facts.interface).await.ok().map(|link| link.is_some());
        facts.local_networks = links.networks_beside(&facts.interface).await.unwrap_or_default();
        if is_admin {
            facts.kernel_wireguard = links.kernel_has_wireguard().await.ok();
        }
    }
    if let Ok(daemon) = &facts.daemon {
        facts.paths = paths::ask(&facts.interface, &daemon.peers).await;
    }
    facts
}

async fn daemon(client: &MeshClient) -> Result<Daemon, MeshError> {
    let (node, is_ours) = seen::node(client).await?;
    let (peers, _) = seen::peers(client).await?;
    Ok(Daemon { node, peers, is_ours })
}

fn secret(path: &Path) -> Option<Secret> {
    let text = Zeroizing::new(std::fs::read_to_string(path).ok()?);
    Secret::parse(&text).ok()
}

/// What is known of the mesh: by our daemon in full, else by the secret.
fn mesh(daemon: Option<&Daemon>, secret: Option<&Secret>) -> Option<MeshFacts> {
    if let Some(daemon) = daemon.filter(|daemon| daemon.is_ours) {
        let node = &daemon.node;
        return Some(MeshFacts {
            subnet: node.subnet.parse().ok(),
            listen_port: node.listen_port,
            exchange_port: node.exchange_port,
            probe_port: node.probe_port,
            lan: node.lan.enabled,
        });
    }
    let keys = MeshKeys::derive(secret?);
    Some(MeshFacts {
        subnet: Some(keys.default_subnet().net()),
        listen_port: DEFAULT_LISTEN_PORT,
        exchange_port: keys.gossip_port,
        probe_port: keys.probe_port(),
        lan: true,
    })
}

fn capabilities() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

async fn firewall(is_admin: bool) -> Firewall {
    if !is_admin {
        return Firewall::default();
    }
    let running = Command::new("nft").args(["-j", "list", "ruleset"]).kill_on_drop(true).output();
    let output = tokio::time::timeout(NFT_MAX, running).await.ok().and_then(Result::ok);
    let ruleset = output.filter(|output| output.status.success());
    let legacy = word("/proc/net/ip_tables_names").filter(|names| !names.is_empty());
    Firewall {
        ruleset: ruleset.and_then(|output| serde_json::from_slice(&output.stdout).ok()),
        has_legacy: legacy.is_some(),
    }
}

fn rp_filter(interface: &str) -> Option<u8> {
    let filter = |name: &str| -> Option<u8> {
        word(&format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"))?.parse().ok()
    };
    // The kernel takes the greater of the two.
    Some(filter(interface)?.max(filter("all")?))
}

/// Whether the kernel's table has a default route, or one for 239.0.0.0/8 or wider.
fn leads_to_groups(table: &str) -> bool {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let hex = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
        let destination = hex(columns.next()?)?;
        let mask = hex(columns.nth(5)?)?;
        Some((destination, mask))
    });
    let group = u32::from_be_bytes([239, 192, 0, 0]);
    rows.into_iter().any(|(destination, mask)| group & mask == destination)
}

/// The files that hold keys, as far as they are there.
fn files(args: &DoctorArgs, interface: &str) -> Vec<FileMode> {
    let state = [
        args.state_dir.clone(),
        args.state_dir.join(format!("{interface}.json")),
        args.state_dir.join(format!("{interface}-peers.json")),
    ];
    let paths = state.into_iter().chain(args.secret_file.clone());
    let mode = |path: PathBuf| {
        let metadata = std::fs::metadata(&path).ok()?;
        let (mode, is_dir) = (metadata.permissions().mode(), metadata.is_dir());
        Some(FileMode { path, mode, is_dir })
    };
    paths.filter_map(mode).collect()
}

fn word(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_to_multicast_groups_are_found() {
        let head =
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
        for (row, expected) in [
            ("eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", true),
            ("eth0\t000000EF\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n", true),
            ("eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n", false),
            ("rubbish\n", false),
        ] {
            assert_eq!(leads_to_groups(&format!("{head}{row}")), expected, "{row}");
        }
    }
}
