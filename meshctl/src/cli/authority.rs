//! What is typed of mesh authorities and the certificates that they give.

use std::path::PathBuf;

use meshctl_core::authority::AuthorityKey;
use meshctl_core::key::PublicKey;

use super::SocketArgs;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum AuthorityCommand {
    /// Make a mesh authority: its secret key into a file, its public key to stdout
    Init {
        /// File for the secret key; it belongs on no node
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print the public key, which `--require-signed` and `--authority` take
    Show {
        #[command(flatten)]
        key: SecretArgs,
    },
    /// Print a certificate that makes a node a member
    Sign {
        /// The node's WireGuard public key, as `meshctl status -o name` prints it there
        #[arg(value_name = "KEY")]
        node: PublicKey,
        /// What the members call the node
        #[arg(long, value_name = "NAME")]
        name: String,
        /// When the certificate ends: a span such as `90d`, `12h` or `1y`, or a day as `2027-12-31`
        #[arg(long, value_name = "TIME")]
        expires: String,
        #[command(flatten)]
        key: SecretArgs,
    },
    /// Take a node's membership back; members hear of it from the local daemon
    Revoke {
        /// The node's WireGuard public key
        #[arg(value_name = "KEY")]
        node: PublicKey,
        /// Only print the revocation, for `meshctl authority publish` on a node
        #[arg(long)]
        print: bool,
        #[command(flatten)]
        key: SecretArgs,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Hand a printed revocation to the local daemon
    Publish {
        /// File that holds it; `-` for stdin
        #[arg(value_name = "FILE")]
        revocation: PathBuf,
        #[command(flatten)]
        socket: SocketArgs,
    },
}

/// Where the authority's secret key lies.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SecretArgs {
    /// File that `meshctl authority init` made
    #[arg(long, value_name = "FILE")]
    pub(crate) authority_key: PathBuf,
}

/// Whom a node believes about members, and by what it is one.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TrustArgs {
    /// Keep out who has the secret but no certificate of this authority; may be given more than once
    #[arg(long, value_name = "KEY")]
    pub(crate) require_signed: Vec<AuthorityKey>,

    /// Show who has a certificate of this authority, and keep nobody out; may be given more than once
    #[arg(long = "authority", value_name = "KEY", conflicts_with = "require_signed")]
    pub(crate) authorities: Vec<AuthorityKey>,

    /// File with this node's certificate, from `meshctl authority sign`; read anew when it changes
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
}
