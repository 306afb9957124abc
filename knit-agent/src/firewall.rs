//! What publishes ports and guards the mesh address: nftables, or a fake beside it.

pub mod fake;
pub mod nftables;

use async_trait::async_trait;
use knit_agent_core::nft::Rules;
use knit_agent_core::publish::PortMap;

#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    #[error(
        "`{program}` could not be run: install Debian's package `{package}`, or check the agent's permissions"
    )]
    Run { program: &'static str, package: &'static str, source: std::io::Error },
    #[error("`{program}` refused: {words}")]
    Refused { program: &'static str, words: String },
    #[error("`{program}` did not answer within {} s", nftables::PROGRAM_MAX.as_secs())]
    Timeout { program: &'static str },
    #[error("the answer of `nft -j` was not understood")]
    Parse(#[source] serde_json::Error),
}

/// Invariant: after `apply` succeeded the rules are exactly what was asked, whatever was there,
/// and at no instant between was there a moment without them.
#[async_trait]
pub trait Firewall: Send + Sync + 'static {
    /// Makes the rules so. Cheap when they are so already.
    async fn apply(&self, rules: &Rules) -> Result<(), FirewallError>;
    /// The same, and faster, when only the ports differ from what was written last. Whether
    /// somebody else changed the rules meanwhile is left to `apply`.
    async fn change(&self, rules: &Rules) -> Result<(), FirewallError>;
    /// The ports that our rules publish now; none when no rules of ours are there at all.
    async fn published(&self) -> Result<Option<PortMap>, FirewallError>;
    /// Removes everything of ours.
    async fn clear(&self) -> Result<(), FirewallError>;
}
