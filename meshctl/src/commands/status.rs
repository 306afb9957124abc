//! `meshctl status`: the local node.

use std::time::Duration;

use anyhow::Result;
use knit_runtime::terminal::{self, Output, printable};

use crate::cli::ShowArgs;

pub(super) async fn run(args: &ShowArgs) -> Result<()> {
    let client = super::client(&args.socket);
    let status = client.status().await?;
    match args.output {
        Output::Json => terminal::print_json(&status)?,
        Output::Yaml => terminal::print_yaml(&status)?,
        Output::Name => terminal::print(&format!("{}\n", printable(&status.pubkey)))?,
        Output::Table | Output::Wide => {
            let uptime = Duration::from_nanos(u64::try_from(status.uptime).unwrap_or_default());
            let mut rows = vec![
                ("mesh address", status.mesh_ip),
                ("public key", status.pubkey),
                ("interface", status.interface),
                ("engine", status.engine.unwrap_or_else(|| "-".to_owned())),
                ("uptime", format!("{} s", uptime.as_secs())),
                ("version", status.version),
            ];
            if let Some(hostname) = status.hostname {
                rows.insert(0, ("hostname", hostname));
            }
            let count = client.count().await?;
            // A Go daemon does not tell whom it has ceased to hear.
            let peers = match &status.unheard {
                Some(unheard) => {
                    format!("{} known, {} of them unheard", count.total, unheard.len())
                }
                None => format!("{} known", count.total),
            };
            rows.push(("peers", peers));
            let line =
                |(name, value): &(&str, String)| format!("{name:<13} {}\n", printable(value));
            terminal::print(&rows.iter().map(line).collect::<String>())?;
        }
    }
    Ok(())
}
