//! `knit-agent`: see `knit-agent --help`.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use knit_agent::agent::{Agent, Parts};
use knit_agent::cleanup;
use knit_agent::config::{Cli, Command, Config};
use knit_agent::engine::docker::Docker;
use knit_agent::firewall::nftables::Nftables;
use knit_agent::join_token;
use knit_agent::manual::MANUAL;
use knit_agent::session::BusSource;
use knit_runtime::terminal;

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::eprintln(&format!("knit-agent: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    // Another provider was installed first at worst; this process needs one, not this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    knit_runtime::log::init(&cli.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no threads could be started")?;
    match cli.command {
        Command::Run(options) => runtime.block_on(run(options.resolve()?)),
        Command::Join(join) => {
            let config = join.options.resolve()?;
            let token = join_token::take(&config.state_dir, join.token_file.as_deref())?;
            terminal::eprintln(&format!(
                "the agent on this host joins cluster {} with it, within seconds if it runs",
                token.cluster
            ));
            Ok(())
        }
        Command::Cleanup(options) => runtime.block_on(cleanup::run(&options.resolve()?)),
        Command::CheckConfig { file } => {
            Config::check(&file)?;
            terminal::eprintln(&format!("{} is right", file.display()));
            Ok(())
        }
        Command::Manual(command) => Ok(command.run(Cli::command(), &MANUAL)?),
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = knit_runtime::signal::shutdown();
    let engine = Arc::new(Docker::new(&config.docker_socket));
    let firewall = Arc::new(Nftables::new());
    let agent = Agent::start(config, Parts { engine, firewall, bus: BusSource::Nats, mesh: None })?;
    knit_runtime::notify::ready();
    let is_broken = tokio::select! {
        () = shutdown.cancelled() => false,
        () = agent.broken() => true,
        () = agent.tell_alive() => true,
    };
    knit_runtime::notify::stopping();
    agent.stop().await;
    anyhow::ensure!(!is_broken, "a part of the agent ended on its own; the log says why");
    Ok(())
}
