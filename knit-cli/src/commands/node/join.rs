//! `knit node token`, `approve` and `reject`: who becomes a node.

use std::process::ExitCode;

use knit_rpc::join::NewJoinToken;
use knit_runtime::terminal::{self, eprintln, printable};

use super::find;
use crate::cli::{JoinTokenArgs, NodeArgs, RejectNodeArgs};
use crate::commands::show::rough;
use crate::server;

pub(super) async fn token(args: JoinTokenArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.server).await?;
    let new = NewJoinToken {
        ttl: Some(args.ttl.as_secs()),
        labels: args.labels.into_iter().collect(),
        wg_pubkey: args.wg_key,
    };
    let minted = client.create_join_token(&new).await?;
    eprintln(&format!(
        "on the new host, as root: `knit-agent join`, and paste this; it lets one host in within {}",
        rough(args.ttl)
    ));
    terminal::print(&format!("{}\n", minted.token))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn approve(args: NodeArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.server).await?;
    let (_, id) = find(&client, &args.node).await?;
    let node = client.approve_node(&id).await?;
    eprintln(&format!("{} is let in: it registers within seconds", printable(&node.name)));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn reject(args: RejectNodeArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.server).await?;
    let (name, id) = find(&client, &args.node).await?;
    if let Some(removed) = client.reject_node(&id, args.force).await? {
        super::say_removed(&name, &removed);
    }
    eprintln(&format!("{} stays out, and is not asked about again", printable(&name)));
    Ok(ExitCode::SUCCESS)
}
