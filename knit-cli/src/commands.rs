//! One module per command.

mod deploy;
mod list;
mod show;
mod status;
mod undeploy;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::dev;

/// Runs the command that was typed.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Deploy(args) => deploy::run(args).await,
        Command::Undeploy(args) => undeploy::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::List(args) => list::run(args).await,
        Command::Dev(args) => dev::run(*args, cli.log.log_level).await,
    }
}
