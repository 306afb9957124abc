//! `meshctl leave`: the daemon says goodbye, removes its interface and ends.

use std::time::Duration;

use anyhow::{Context as _, Result};
use knit_link::mesh::{MeshClient, MeshError};
use knit_runtime::terminal;

use crate::cli::SocketArgs;

const END_MAX: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn run(args: &SocketArgs) -> Result<()> {
    let client = super::client(args);
    match client.leave().await {
        Ok(()) => {
            ended(&client).await?;
            terminal::eprintln("left the mesh");
            Ok(())
        }
        Err(MeshError::Unsupported { path, .. }) => anyhow::bail!(
            "the daemon on {} cannot be told to leave: stop it with SIGTERM, which makes a Go daemon leave",
            path.display()
        ),
        Err(error) => Err(error.into()),
    }
}

/// Waits until the daemon is gone: only then is its interface.
async fn ended(client: &MeshClient) -> Result<()> {
    let gone = async {
        while !matches!(client.ping().await, Err(MeshError::Connect { .. })) {
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    let waited = tokio::time::timeout(END_MAX, gone).await;
    waited.context("the daemon agreed to leave and still runs: see its log")
}
