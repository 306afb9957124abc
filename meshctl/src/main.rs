//! `meshctl`: the mesh command line, and with `meshctl join` the mesh daemon itself.

mod bench;
mod cli;
mod commands;
mod manual;
mod sidecar;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().collect()).and_then(run) {
        Ok(code) => code,
        Err(error) => {
            knit_runtime::terminal::eprintln(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: cli::Cli) -> anyhow::Result<ExitCode> {
    let default_level = if cli.command.is_daemon() { "info" } else { "warn" };
    knit_runtime::log::init_or(&cli.log, default_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(commands::run(cli.command))
}
