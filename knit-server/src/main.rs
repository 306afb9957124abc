//! The knit-server program.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use knit_server::config::{Cli, Command, Config};
use knit_server::manual::MANUAL;

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            knit_runtime::terminal::eprintln(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    knit_runtime::log::init(&cli.log)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?
        .block_on(run(cli.command))
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(options) => {
            let config = Config::load(*options)?;
            knit_server::server::run(config, knit_runtime::signal::shutdown()).await
        }
        Command::Init(options) => {
            let text = knit_server::server::init(&Config::load(*options)?).await?;
            knit_runtime::terminal::print(&text).context("the token could not be printed")
        }
        Command::RotateMasterKey(options) => {
            let config = Config::load(options.options)?;
            let new = options.new_master_key_file.as_deref();
            let text = knit_server::server::rotate_master_key(&config, new).await?;
            knit_runtime::terminal::eprintln(&text);
            Ok(())
        }
        Command::Backup(options) => {
            knit_runtime::terminal::eprintln(&knit_server::server::backup(*options).await?);
            Ok(())
        }
        Command::Restore(options) => {
            knit_runtime::terminal::eprintln(&knit_server::server::restore(*options).await?);
            Ok(())
        }
        Command::NatsConfig(options) => {
            let text = knit_server::server::nats_config(&Config::load(*options)?)?;
            knit_runtime::terminal::print(&text).context("the configuration could not be printed")
        }
        Command::CheckConfig { file } => {
            Config::check(&file)?;
            knit_runtime::terminal::eprintln(&format!("{} is right", file.display()));
            Ok(())
        }
        Command::Manual(command) => Ok(command.run(Cli::command(), &MANUAL)?),
    }
}
