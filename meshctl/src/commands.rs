//! One file for each command.

mod humane;
mod init;
mod leave;
mod nodes;
mod peers;
mod seen;
mod status;

use anyhow::Result;
use knit_link::mesh::{MeshClient, find_socket};

use crate::cli::{Command, SocketArgs};
use crate::sidecar;

pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Init => init::run(),
        Command::Join(args) => sidecar::run(*args).await,
        Command::Leave(args) => leave::run(&args).await,
        Command::Status(args) => status::run(&args).await,
        Command::Peers(args) => peers::run(args).await,
        Command::Nodes(args) => nodes::run(&args).await,
    }
}

fn client(args: &SocketArgs) -> MeshClient {
    MeshClient::new(find_socket(args.mesh_socket.as_deref()))
}
