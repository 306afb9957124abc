//! `meshctl leave`: the daemon says goodbye, removes its interface and ends.

use anyhow::Result;
use knit_link::mesh::MeshError;
use knit_runtime::terminal;

use crate::cli::SocketArgs;

pub(super) async fn run(args: &SocketArgs) -> Result<()> {
    match super::client(args).leave().await {
        Ok(()) => {
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
