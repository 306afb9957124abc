//! `meshctl peers`: what the local daemon knows of other nodes.

use anyhow::Result;
use knit_rpc::jsonrpc::PeerInfo;
use knit_runtime::terminal::table::Table;
use knit_runtime::terminal::{self, Output, printable};

use crate::cli::{PeersArgs, PeersCommand, ShowArgs};

pub(super) async fn run(args: PeersArgs) -> Result<()> {
    match args.command {
        None => list(&args.show).await,
        Some(PeersCommand::List { show }) => list(&show).await,
        Some(PeersCommand::Count { show }) => count(&show).await,
        Some(PeersCommand::Get { key, show }) => get(&key, &show).await,
    }
}

async fn list(args: &ShowArgs) -> Result<()> {
    let peers = super::client(&args.socket).peers().await?;
    Ok(terminal::print_rows(args.output, &peers, |peer| peer.pubkey.clone(), table)?)
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
    let peer = super::client(&args.socket).peer(key).await?;
    match args.output {
        Output::Json => terminal::print_json(&peer)?,
        Output::Yaml => terminal::print_yaml(&peer)?,
        Output::Name => terminal::print(&format!("{}\n", printable(&peer.pubkey)))?,
        Output::Table | Output::Wide => {
            let wide = args.output == Output::Wide;
            terminal::print(&table(std::slice::from_ref(&peer), wide).to_string())?;
        }
    }
    Ok(())
}

fn table(peers: &[PeerInfo], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .column("name")
        .column("mesh address")
        .column("endpoint")
        .column("last seen")
        .column("latency")
        .wide_column("found by")
        .wide_column("routes")
        .column("public key");
    for peer in peers {
        let latency = peer.latency_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        table.row([
            or_dash(&peer.hostname),
            or_dash(&peer.mesh_ip),
            or_dash(&peer.endpoint),
            or_dash(&peer.last_seen),
            latency,
            or_dash(&peer.discovered_via.join(",")),
            or_dash(&peer.routable_networks.join(",")),
            peer.pubkey.clone(),
        ]);
    }
    table
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}
