//! One file for each command.

mod authority;
mod bench;
mod check_config;
mod doctor;
mod echo;
mod humane;
mod init;
mod leave;
mod membership;
mod nodes;
mod peers;
mod ping;
mod rotate;
mod seen;
mod status;
mod target;

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory as _;
use knit_link::mesh::{MeshClient, find_socket};

use crate::cli::{Cli, Command, SocketArgs};
use crate::manual::MANUAL;
use crate::sidecar;

/// Does what was typed; a command that has its own word for failure says it by the exit code.
pub(crate) async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Ping(args) => return ping::run(&args).await,
        Command::Bench(args) => return bench::run(&args).await,
        Command::Doctor(args) => return doctor::run(&args).await,
        Command::Init(args) => init::run(&args),
        Command::Rotate(args) => rotate::run(&args).await,
        Command::Join(args) => Box::pin(sidecar::run(*args)).await,
        Command::Leave(args) => leave::run(&args).await,
        Command::Status(args) => status::run(&args).await,
        Command::Peers(args) => peers::run(args).await,
        Command::Nodes(args) => nodes::run(&args).await,
        Command::Authority(command) => authority::run(command).await,
        Command::CheckConfig { file } => check_config::run(&file),
        Command::Manual(command) => command.run(Cli::command(), &MANUAL).map_err(Into::into),
    }
    .map(|()| ExitCode::SUCCESS)
}

fn client(args: &SocketArgs) -> MeshClient {
    MeshClient::new(find_socket(args.mesh_socket.as_deref()))
}
