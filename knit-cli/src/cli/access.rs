//! Commands about who may do what.

use std::time::Duration;

use knit_rpc::access::Role;
use knit_rpc::id::{ProjectName, TokenId};
use knit_rpc::spec::Span;

use super::{ServerArgs, ShowArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    /// Address of the server, as `--server` takes it [default: the one that is found in the mesh]
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,

    /// The server's key, as `knit whoami` shows it on the server's host; without it you are asked
    #[arg(long, value_name = "KEY")]
    pub(crate) server_key: Option<String>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; it is printed once and kept nowhere
    Create(CreateTokenArgs),
    /// List tokens
    Ls(ShowArgs),
    /// Make a token worth nothing, at once
    Revoke(RevokeTokenArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CreateTokenArgs {
    /// What it is for, in your words
    pub(crate) name: String,

    /// What its holder may do: viewer, deployer, operator or admin
    #[arg(long)]
    pub(crate) role: Role,

    /// The only project in which it holds; may be given more than once [default: all]
    #[arg(short, long = "project", value_name = "PROJECT")]
    pub(crate) projects: Vec<ProjectName>,

    /// How long it holds, such as 90d, 12h or 30m [default: until it is revoked]
    #[arg(long, value_parser = ttl, value_name = "TIME")]
    pub(crate) ttl: Option<Duration>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RevokeTokenArgs {
    /// The token's id, as `knit token ls` shows it
    pub(crate) id: TokenId,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AuditArgs {
    /// Go on with what is done from now on, until Ctrl-C
    #[arg(short, long, conflicts_with = "check")]
    pub(crate) follow: bool,

    /// Have the server walk the whole chain of entries; exits with 3 when something was changed
    #[arg(long)]
    pub(crate) check: bool,

    /// Only entries after this one
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub(crate) after: u64,

    /// One JSON object a line, complete
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    const DAY_SECS: u64 = 24 * 3600;
    let found = match text.strip_suffix('d').map(str::parse::<u64>) {
        Some(Ok(days)) => days.checked_mul(DAY_SECS).map(Duration::from_secs),
        Some(Err(_)) => None,
        None => Span::parse(text).ok().map(Span::duration),
    };
    found
        .filter(|ttl| ttl.as_secs() > 0)
        .ok_or_else(|| format!("write a time such as 90d, 12h or 30m, not \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_token_holds() {
        for (text, secs) in [("90d", 7_776_000), ("12h", 43_200), ("1h30m", 5_400), ("1s", 1)] {
            assert_eq!(ttl(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for bad in ["", "0", "0d", "d", "-1d", "1w", "500ms", "99999999999999999999d"] {
            assert!(ttl(bad).is_err(), "{bad}");
        }
    }
}
