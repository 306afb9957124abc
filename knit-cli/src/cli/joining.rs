//! Commands that make a host a node.

use std::path::PathBuf;

use knit_runtime::ssh::Target;

use super::ServerArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct AddNodeArgs {
    /// The host, as ssh knows it: root there, or a user whom sudo lets in without a password
    #[arg(value_name = "[USER@]HOST[:PORT]", value_parser = target)]
    pub(crate) host: Target,

    /// A label that the node gets; may be given more than once
    #[arg(long = "label", value_parser = super::cluster::new_label, value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<(String, String)>,

    /// The node's name [default: the host's]
    #[arg(long, value_parser = word)]
    pub(crate) name: Option<String>,

    /// File with the mesh secret [default: the one of this host, where its packages put it; none is
    /// needed for a host that is in the mesh]
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh_secret_file: Option<PathBuf>,

    /// A host of the mesh that the new one is to say hello to, where no LAN leads to one; may be
    /// given more than once
    #[arg(long = "seed", value_name = "HOST[:PORT]", value_parser = word)]
    pub(crate) seeds: Vec<String>,

    /// Directory with `meshctl` and `knit-agent` for it [default: that of this program, if they are
    /// there, else the host must have them]
    #[arg(long, value_name = "DIR", conflicts_with = "debs")]
    pub(crate) binaries: Option<PathBuf>,

    /// Directory with their Debian packages
    #[arg(long, value_name = "DIR")]
    pub(crate) debs: Option<PathBuf>,

    /// Install nothing of the system's own: Docker and nftables have to be there
    #[arg(long)]
    pub(crate) no_install: bool,

    /// Wait at most SECONDS until the server counts it as ready, once it has joined
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

fn target(text: &str) -> Result<Target, String> {
    Target::parse(text).map_err(|problem| problem.to_string())
}

/// What passes another host's shell and lands in its files.
fn word(text: &str) -> Result<String, String> {
    let known = |c: char| c.is_ascii_alphanumeric() || "._:-[]".contains(c);
    if text.is_empty() || text.starts_with('-') || !text.chars().all(known) {
        return Err("use letters, digits, `.`, `_`, `:` and `-`".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_shell_reads_otherwise_is_a_name() {
        for text in ["", "-x", "a b", "$(id)", "a'b", "a\"b", "a\nb", "a;b", "ä"] {
            assert!(word(text).is_err(), "{text}");
        }
        assert!(word("fra-1.example:51820").is_ok() && target("-oX").is_err());
    }
}
