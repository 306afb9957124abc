//! `meshctl peers`: what the local daemon knows of other nodes.

use anyhow::Result;
use knit_rpc::Timestamp;
use knit_rpc::jsonrpc::{KeptOutPeer, MeshPeer, PeerPath, PeerState};
use knit_runtime::terminal::table::{Cell, Table};
use knit_runtime::terminal::{self, Colour, Output};

use super::{humane, membership, seen};
use crate::cli::{PeersArgs, PeersCommand, ShowArgs};

pub(super) async fn run(args: PeersArgs) -> Result<()> {
    match args.command {
        None => list(&args.show).await,
        Some(PeersCommand::List { show }) => list(&show).await,
        Some(PeersCommand::Count { show }) => count(&show).await,
        Some(PeersCommand::KeptOut { show }) => kept_out(&show).await,
        Some(PeersCommand::Get { key, show }) => get(&key, &show).await,
    }
}

async fn list(args: &ShowArgs) -> Result<()> {
    let client = super::client(&args.socket);
    let (peers, is_ours) = seen::peers(&client).await?;
    if !is_ours && matches!(args.output, Output::Table | Output::Wide) {
        terminal::eprintln(seen::COARSE);
    }
    terminal::print_rows(args.output, &peers, |peer| peer.info.pubkey.clone(), table)?;
    if matches!(args.output, Output::Table | Output::Wide) {
        let kept_out = membership::kept_out(&client).await?;
        if !kept_out.is_empty() {
            let wide = args.output == Output::Wide;
            terminal::print(&format!("\n{}", membership::kept_out_table(&kept_out, wide)))?;
        }
    }
    Ok(())
}

async fn kept_out(args: &ShowArgs) -> Result<()> {
    let peers = membership::kept_out(&super::client(&args.socket)).await?;
    let key = |peer: &KeptOutPeer| peer.pubkey.clone();
    Ok(terminal::print_rows(args.output, &peers, key, membership::kept_out_table)?)
}

async fn count(args: &ShowArgs) -> Result<()> {
    let count = super::client(&args.socket).count().await?;
    match args.output {
        Output::Json => terminal::print_json(&count)?,
        Output::Yaml => terminal::print_yaml(&count)?,
        Output::Name => terminal::print(&format!("{}\n", count.active))?,
        Output::Table | Output::Wide => terminal::print(&format!(
            "{} active, {} dead, {} in all\n",
            count.active, count.dead, count.total
        ))?,
    }
    Ok(())
}

async fn get(key: &str, args: &ShowArgs) -> Result<()> {
    let client = super::client(&args.socket);
    // The daemon's own refusal of a key that it does not know is the best one.
    let info = client.peer(key).await?;
    let (peers, _) = seen::peers(&client).await?;
    let found = peers.into_iter().find(|peer| peer.info.pubkey == info.pubkey);
    let peer = found.unwrap_or(MeshPeer { info, ..MeshPeer::default() });
    Ok(terminal::print_value(
        args.output,
        &peer,
        |peer| peer.info.pubkey.clone(),
        |peer, wide| table(std::slice::from_ref(peer), wide).to_string(),
    )?)
}

fn table(peers: &[MeshPeer], wide: bool) -> Table {
    let knows_authority = peers.iter().any(|peer| peer.info.signed.is_some());
    let table = Table::new(wide).column("name").column("mesh address").column("endpoint");
    // Without an authority there is nothing to tell.
    let table = if knows_authority { table.column("signed") } else { table.wide_column("signed") };
    let mut table = table
        .wide_column("source")
        .wide_column("mesh ipv6")
        .column("state")
        .column("path")
        .column("heard")
        .column("rtt")
        .wide_column("handshake")
        .wide_column("rx")
        .wide_column("tx")
        .wide_column("clock")
        .wide_column("daemon")
        .wide_column("found by")
        .wide_column("routes")
        .wide_column("public key")
        .column("why");
    let now = knit_runtime::clock::now();
    for peer in peers {
        let info = &peer.info;
        table.row([
            Cell::from(&info.hostname),
            Cell::from(&info.mesh_ip),
            Cell::from(&info.endpoint),
            Cell::from(membership::signed(info.signed.as_ref())),
            Cell::from(peer.endpoint_source.as_deref().unwrap_or_default()),
            Cell::from(peer.mesh_ipv6.as_deref().unwrap_or_default()),
            Cell::coloured(colour_of(peer.state), peer.state.as_str()),
            Cell::from(path(peer, peers)),
            Cell::from(heard(peer, now)),
            Cell::from(rtt(peer)),
            Cell::from(ago(peer.handshake_age_ms)),
            Cell::from(peer.rx_bytes.map(humane::bytes).unwrap_or_default()),
            Cell::from(peer.tx_bytes.map(humane::bytes).unwrap_or_default()),
            Cell::from(
                peer.clock_offset_secs.map(|secs| format!("{secs:+} s")).unwrap_or_default(),
            ),
            Cell::from(match peer.knit {
                Some(true) => "knit",
                Some(false) => "wgmesh",
                None => "",
            }),
            Cell::from(info.discovered_via.join(",")),
            Cell::from(info.routable_networks.join(",")),
            Cell::from(&info.pubkey),
            Cell::from(peer.why.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

fn path(peer: &MeshPeer, peers: &[MeshPeer]) -> String {
    match (peer.path, &peer.relay) {
        (PeerPath::None, _) => String::new(),
        (PeerPath::Direct, _) => "direct".to_owned(),
        (PeerPath::Relay, None) => "relay".to_owned(),
        (PeerPath::Relay, Some(key)) => {
            let relay = peers.iter().find(|other| other.info.pubkey == *key);
            let name =
                relay.map(|relay| relay.info.hostname.as_str()).filter(|name| !name.is_empty());
            format!("relay via {}", name.unwrap_or(key))
        }
    }
}

/// When it last gave a sign of life; of a Go daemon's peers only its `last_seen` is known.
fn heard(peer: &MeshPeer, now: Timestamp) -> String {
    let coarse = || {
        let seen: jiff::Timestamp = peer.info.last_seen.parse().ok()?;
        let seen = u64::try_from(seen.as_millisecond()).ok()?;
        Some(now.as_millis().saturating_sub(seen))
    };
    ago(peer.heard_ms_ago.or_else(coarse))
}

fn rtt(peer: &MeshPeer) -> String {
    let micros = peer.rtt_us.map(humane::round_trip);
    micros.or_else(|| peer.info.latency_ms.map(|ms| format!("{ms} ms"))).unwrap_or_default()
}

fn ago(millis: Option<u64>) -> String {
    millis.map(|millis| format!("{} ago", humane::span(millis))).unwrap_or_default()
}

fn colour_of(state: PeerState) -> Colour {
    match state {
        PeerState::Up => Colour::Green,
        PeerState::Heard => Colour::Dim,
        PeerState::Silent | PeerState::Stale => Colour::Yellow,
        PeerState::Never => Colour::Red,
    }
}
