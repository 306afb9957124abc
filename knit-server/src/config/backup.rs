//! How backups are made and restored.

use std::path::PathBuf;

use clap::Args;

use super::Options;

/// What goes into a backup, and where that goes.
#[derive(Debug, Args)]
pub struct BackupOptions {
    #[command(flatten)]
    pub options: Options,

    /// The file to write, a directory for one that is named by the time, or `-` for stdout
    /// [default: the directory you are in]
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Replace the file if it is there
    #[arg(long)]
    pub force: bool,

    /// Leave the master key out: what is sealed in the backup then opens only with a copy of it
    /// that you keep elsewhere
    #[arg(long)]
    pub without_master_key: bool,

    /// Make none, but read this one through and say what it is; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "force", "without_master_key"])]
    pub check: Option<PathBuf>,
}

/// What is restored, and where.
#[derive(Debug, Args)]
pub struct RestoreOptions {
    #[command(flatten)]
    pub options: Options,

    /// The backup; `-` is stdin
    #[arg(value_name = "FILE")]
    pub backup: PathBuf,
}
