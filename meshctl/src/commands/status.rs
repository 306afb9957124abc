//! `meshctl status`: the local node, and what is not well in its mesh.

use std::fmt::Write as _;

use anyhow::Result;
use knit_rpc::jsonrpc::{MeshDetail, PeerCount};
use knit_runtime::terminal::{self, Colour, Output, printable};

use super::{humane, membership, seen};
use crate::cli::ShowArgs;

/// Reasons shown without `-o wide`.
const PROBLEMS_SHOWN_MAX: usize = 10;

pub(super) async fn run(args: &ShowArgs) -> Result<()> {
    let client = super::client(&args.socket);
    let (node, is_ours) = seen::node(&client).await?;
    let wide = match args.output {
        Output::Table | Output::Wide if !is_ours => {
            let count = client.count().await?;
            terminal::eprintln(seen::COARSE);
            return Ok(terminal::print(&coarse(&node, count))?);
        }
        Output::Table => false,
        Output::Wide => true,
        Output::Json | Output::Yaml | Output::Name => {
            return Ok(terminal::print_value(
                args.output,
                &node,
                |node| node.status.pubkey.clone(),
                |_, _| String::new(),
            )?);
        }
    };
    Ok(terminal::print(&text(&node, wide))?)
}

fn text(node: &MeshDetail, wide: bool) -> String {
    let status = &node.status;
    let mut rows = heading(node);
    let uptime_ms = u64::try_from(status.uptime).unwrap_or_default() / 1_000_000;
    rows.push(("uptime", humane::span(uptime_ms)));
    rows.push(("discovery", discovery(node)));
    rows.push(("peers", peers(node)));
    rows.extend(routes(node));
    rows.extend(node.status.membership.iter().flat_map(membership::rows));
    rows.extend(node.status.rotation.iter().map(membership::rotation_row));
    if wide {
        let ports = format!(
            "WireGuard UDP {}, exchange UDP {}, probe TCP {} in the mesh",
            node.listen_port, node.exchange_port, node.probe_port
        );
        rows.push(("ports", ports));
        rows.push(("mesh", node.mesh_id.clone()));
        let public = node.public_address.as_deref().unwrap_or("no public address");
        let nat = node.nat_type.as_ref().map(|nat| format!(", NAT {nat}")).unwrap_or_default();
        rows.push(("seen at", format!("{public}{nat}")));
    }
    rows.push(("version", status.version.clone()));
    lines(&rows) + &problems(&node.problems, wide)
}

fn heading(node: &MeshDetail) -> Vec<(&'static str, String)> {
    let status = &node.status;
    let (first, others) = node
        .addresses
        .split_first()
        .map_or(("", &[][..]), |(first, others)| (first.as_str(), others));
    let mut address = first.to_owned();
    if !node.subnet.is_empty() {
        let _ = write!(address, " in {}", node.subnet);
    }
    for other in others {
        let _ = write!(address, ", {other}");
    }
    let mut device =
        format!("{} on {}", status.engine.as_deref().unwrap_or("WireGuard"), status.interface);
    if node.mtu > 0 {
        let _ = write!(device, ", MTU {}, UDP port {}", node.mtu, node.listen_port);
    }
    let mut rows =
        vec![("mesh address", address), ("public key", status.pubkey.clone()), ("engine", device)];
    if let Some(hostname) = &status.hostname {
        rows.insert(0, ("hostname", hostname.clone()));
    }
    rows
}

/// A Go daemon's node: what it tells, and no more. Its uptime counts from whoever asked first.
fn coarse(node: &MeshDetail, count: PeerCount) -> String {
    let mut rows = heading(node);
    rows.push(("peers", format!("{} heard, {} not heard any more", count.active, count.dead)));
    rows.push(("version", node.status.version.clone()));
    lines(&rows)
}

fn lines(rows: &[(&str, String)]) -> String {
    let line = |(name, value): &(&str, String)| format!("{name:<13} {}\n", printable(value));
    rows.iter().map(line).collect()
}

fn discovery(node: &MeshDetail) -> String {
    let lan = match (node.lan.enabled, node.lan.interfaces.as_slice()) {
        (false, _) => "LAN off".to_owned(),
        (true, []) => "LAN on, and no interface leads to one".to_owned(),
        (true, found) => {
            let found: Vec<String> =
                found.iter().map(|lan| format!("{} ({})", lan.name, lan.address)).collect();
            format!("LAN on {}", found.join(", "))
        }
    };
    let answered = node.seeds.iter().filter(|seed| seed.answered_ms_ago.is_some()).count();
    match node.seeds.len() {
        0 => format!("{lan}; no seeds"),
        seeds => format!("{lan}; {answered} of {seeds} seeds answered"),
    }
}

fn peers(node: &MeshDetail) -> String {
    let states = node.peers;
    let total = states.up + states.silent + states.stale + states.never;
    let parts = [
        (states.up, "up"),
        (states.silent, "silent"),
        (states.stale, "stale"),
        (states.never, "without a handshake yet"),
        (states.relayed, "relayed"),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, what)| format!("{count} {what}")).collect();
    if total == 0 { "none".to_owned() } else { format!("{total} known: {}", parts.join(", ")) }
}

fn routes(node: &MeshDetail) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if !node.routes_advertised.is_empty() {
        rows.push(("advertises", node.routes_advertised.join(", ")));
    }
    if !node.accept_routes.is_empty() {
        let used: Vec<String> = node
            .routes_used
            .iter()
            .map(|route| format!("{} via {}", route.route, route.via))
            .collect();
        let used = if used.is_empty() { "nothing".to_owned() } else { used.join(", ") };
        rows.push(("routes", format!("{used} (accepts {})", node.accept_routes.join(", "))));
    }
    rows
}

fn problems(problems: &[String], wide: bool) -> String {
    if problems.is_empty() {
        return String::new();
    }
    let shown = if wide { problems.len() } else { PROBLEMS_SHOWN_MAX };
    let mut text = format!("\n{}\n", terminal::colour(Colour::Yellow, "not as it should be"));
    for problem in problems.iter().take(shown) {
        let _ = writeln!(text, "  {}", printable(problem));
    }
    if problems.len() > shown {
        let _ = writeln!(text, "  and {} more: meshctl status -o wide", problems.len() - shown);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use knit_rpc::jsonrpc::{
        LanDetail, LanInterface, MeshStatus, PeerStates, SeedDetail, UsedRoute,
    };

    fn node() -> MeshDetail {
        MeshDetail {
            status: MeshStatus {
                mesh_ip: "10.45.75.206".into(),
                pubkey: "j0DF=".into(),
                uptime: 7_300_000_000_000,
                interface: "wg0".into(),
                version: "knit-mesh/0.1.0".into(),
                engine: Some("kernel".into()),
                hostname: Some("fra-1\u{1b}[2J".into()),
                unheard: None,
                membership: None,
                rotation: None,
            },
            subnet: "10.45.0.0/16".into(),
            addresses: vec!["10.45.75.206".into(), "fd74::1".into()],
            mtu: 1420,
            listen_port: 51820,
            lan: LanDetail {
                enabled: true,
                interfaces: vec![LanInterface { name: "eth0".into(), address: "192.0.2.1".into() }],
            },
            seeds: vec![
                SeedDetail { address: "192.0.2.9:52448".into(), answered_ms_ago: None },
                SeedDetail { address: "192.0.2.8:52448".into(), answered_ms_ago: Some(1) },
            ],
            peers: PeerStates { up: 3, never: 1, ..PeerStates::default() },
            accept_routes: vec!["10.0.0.0/8".into()],
            routes_used: vec![UsedRoute { route: "10.99.2.0/24".into(), via: "fra-2".into() }],
            problems: vec!["peer fra-4: no handshake yet".into()],
            ..MeshDetail::default()
        }
    }

    #[test]
    fn a_node_is_shown_with_what_is_wrong() {
        assert_eq!(
            text(&node(), false),
            concat!(
                "hostname      fra-1\\u{1b}[2J\n",
                "mesh address  10.45.75.206 in 10.45.0.0/16, fd74::1\n",
                "public key    j0DF=\n",
                "engine        kernel on wg0, MTU 1420, UDP port 51820\n",
                "uptime        2 h\n",
                "discovery     LAN on eth0 (192.0.2.1); 1 of 2 seeds answered\n",
                "peers         4 known: 3 up, 1 without a handshake yet\n",
                "routes        10.99.2.0/24 via fra-2 (accepts 10.0.0.0/8)\n",
                "version       knit-mesh/0.1.0\n",
                "\nnot as it should be\n  peer fra-4: no handshake yet\n",
            )
        );
        let many = MeshDetail { problems: vec!["x".into(); 12], ..node() };
        assert!(text(&many, false).ends_with("  and 2 more: meshctl status -o wide\n"));
    }
}
