//! `knit`: see `knit --help`.

mod cli;
mod commands;
mod dev;
mod manual;
mod server;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use cli::{Cli, Command};
use knit_runtime::terminal;

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            terminal::eprintln(&format!("knit: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    knit_runtime::log::init_or(&cli.log, "warn")?;
    if let Command::Dev(dev) = &cli.command
        && let Some(exec) = dev.as_exec()
    {
        match dev::exec(dev, exec)? {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no threads could be started")?;
    let code = runtime.block_on(commands::run(cli));
    server::close();
    code
}
