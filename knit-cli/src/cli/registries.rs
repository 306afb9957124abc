//! `knit registry`.

use std::path::PathBuf;

use knit_rpc::id::ProjectName;
use knit_rpc::spec::ImageRef;

use super::{OfProjectArgs, ServerArgs};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum RegistryCommand {
    /// Keep the user name and the password for a registry, or change them
    Add(AddRegistryArgs),
    /// List registries
    Ls(OfProjectArgs),
    /// Forget the credentials for a registry
    Rm(RegistryArgs),
    /// Have the server sign in to a registry, and tell how that went
    Test(RegistryArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RegistryNameArgs {
    /// Registry as images name it, HOST or HOST:PORT; docker.io for images that name none
    #[arg(value_parser = host)]
    pub(crate) host: String,

    /// Its project
    #[arg(short, long, env = "KNIT_PROJECT", default_value = "default")]
    pub(crate) project: ProjectName,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AddRegistryArgs {
    #[command(flatten)]
    pub(crate) name: RegistryNameArgs,

    /// User name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: String,

    /// File that holds the password [default: standard input]
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,

    /// Certificates that the registry's own must be signed by, in PEM, for the server; Docker on
    /// the nodes has its own in /etc/docker/certs.d
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Speak to it without TLS: whoever listens on the way learns the password
    #[arg(long, conflicts_with = "ca_file")]
    pub(crate) insecure: bool,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RegistryArgs {
    #[command(flatten)]
    pub(crate) name: RegistryNameArgs,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Takes what people copy from a browser as well.
fn host(text: &str) -> Result<String, String> {
    if text.starts_with("http://") {
        return Err("write HOST or HOST:PORT, and --insecure when it has no TLS".to_owned());
    }
    let host = text.trim_start_matches("https://").trim_end_matches('/');
    ImageRef::check_registry(host)?;
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_named_as_images_name_it() {
        for (text, expected) in [
            ("r.example:5000", Some("r.example:5000")),
            ("https://r.example/", Some("r.example")),
            ("http://r.example", None),
            ("r.example/team", None),
            ("", None),
        ] {
            assert_eq!(host(text).ok().as_deref(), expected, "{text}");
        }
    }
}
