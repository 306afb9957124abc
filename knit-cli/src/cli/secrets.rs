//! Commands about secrets.

use std::path::PathBuf;

use knit_rpc::id::{ProjectName, SecretName};

use super::{OfProjectArgs, ServerArgs, ShowArgs};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum SecretCommand {
    /// Set a secret, from a file or from standard input: make it, or give it a new version
    Set(SetSecretArgs),
    /// Give a secret that is there a new version
    Rotate(RotateSecretArgs),
    /// List secrets; values are never shown
    Ls(OfProjectArgs),
    /// List a secret's versions, and who needs which
    History(SecretHistoryArgs),
    /// Remove a secret that nothing uses, with all its versions
    Rm(SecretArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct OneSecretArgs {
    /// Secret, by name
    pub(crate) name: SecretName,

    /// The project that it is in
    #[arg(short, long, env = "KNIT_PROJECT", default_value = "default")]
    pub(crate) project: ProjectName,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SecretArgs {
    #[command(flatten)]
    pub(crate) secret: OneSecretArgs,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SetSecretArgs {
    #[command(flatten)]
    pub(crate) secret: OneSecretArgs,

    /// File that holds the value, to the last byte [default: standard input]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RotateSecretArgs {
    #[command(flatten)]
    pub(crate) set: SetSecretArgs,

    /// Make a random value of so many bytes, in hex; nobody sees it
    #[arg(long, value_name = "BYTES", num_args = 0..=1, default_missing_value = "32",
          value_parser = clap::value_parser!(u16).range(16..=1024), conflicts_with = "file")]
    pub(crate) generate: Option<u16>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SecretHistoryArgs {
    #[command(flatten)]
    pub(crate) secret: OneSecretArgs,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}
