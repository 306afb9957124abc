//! One module per command.

mod audit;
mod deploy;
mod ending;
mod follow;
mod history;
mod lifecycle;
mod list;
mod login;
mod network;
mod node;
mod project;
mod registry;
mod rollout;
mod secret;
mod show;
mod status;
#[cfg(test)]
mod testing;
mod token;
mod undeploy;
mod volume;
mod why;

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::cli::{Cli, Command};
use crate::dev;
use crate::manual::MANUAL;

/// Runs the command that was typed.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Deploy(args) => deploy::run(args).await,
        Command::Undeploy(args) => undeploy::run(args).await,
        Command::Scale(args) => lifecycle::scale(args).await,
        Command::Restart(args) => lifecycle::restart(args).await,
        Command::Stop(args) => lifecycle::stop(args).await,
        Command::Start(args) => lifecycle::start(args).await,
        Command::Rollback(args) => lifecycle::rollback(args).await,
        Command::History(args) => history::run(args).await,
        Command::Rollout(command) => rollout::run(command).await,
        Command::Status(args) => status::run(args).await,
        Command::Why(args) => why::why(args).await,
        Command::WhyNot(args) => why::why_not(args).await,
        Command::List(args) => list::run(args).await,
        Command::Node(command) => node::run(command).await,
        Command::Project(command) => project::run(command).await,
        Command::Volume(command) => volume::run(command).await,
        Command::Network(command) => network::run(command).await,
        Command::Registry(command) => registry::run(command).await,
        Command::Secret(command) => secret::run(command).await,
        Command::Login(args) => login::login(*args).await,
        Command::Logout => login::logout(),
        Command::Whoami(args) => token::whoami(args).await,
        Command::Token(command) => token::run(command).await,
        Command::Audit(args) => audit::run(args).await,
        Command::Manual(command) => {
            command.run(Cli::command(), &MANUAL)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Dev(args) => dev::run(*args, cli.log.log_level).await,
    }
}
