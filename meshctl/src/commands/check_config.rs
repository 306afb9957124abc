//! `meshctl check-config`: what keeps a daemon from starting with a file, found beforehand.

use std::path::Path;

use anyhow::Result;

use crate::cli;
use crate::sidecar;

pub(super) fn run(file: &Path) -> Result<()> {
    sidecar::check(&cli::join_args_of(file)?)?;
    knit_runtime::terminal::eprintln(&format!("{} is right", file.display()));
    Ok(())
}
