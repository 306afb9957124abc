//! nftables by the `nft` program, and the one rule that Docker's own chain needs.
//!
//! ```text
//! apply ── list our table as JSON ── same as ours but for elements? ── change elements
//!             └ missing, or not as we left it ── replace the whole table, in one transaction
//! change ── as we wrote it last but for ports? ── change elements, or else apply
//! ```
//!
//! Invariant: what should be there comes from the agent, never from what is found.

mod listing;

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use knit_agent_core::nft::{self, Memory, Rules};
use knit_agent_core::publish::PortMap;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::{Firewall, FirewallError};
use listing::Listing;

/// How long one run of a program may take.
pub const PROGRAM_MAX: Duration = Duration::from_secs(10);

/// The rules of this network namespace.
#[derive(Debug, Clone, Default)]
pub struct Nftables {
    /// What we wrote last, and how the kernel showed it then, elements aside.
    written: Arc<Mutex<Option<Written>>>,
}

#[derive(Debug, Clone)]
struct Written {
    rules: Rules,
    base: serde_json::Value,
}

impl Nftables {
    pub fn new() -> Self {
        Self::default()
    }

    fn written(&self) -> MutexGuard<'_, Option<Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn replace(&self, rules: &Rules) -> Result<(), FirewallError> {
        let load = async |memory| {
            let text = nft::replace(rules, memory);
            run("nft", "nftables", &["-f", "-"], Some(&text)).await
        };
        match load(Memory::Brief).await {
            // A kernel without timeouts of its own for connections.
            Err(FirewallError::Refused { .. }) => load(Memory::Long).await?,
            done => done?,
        };
        if let Some(listing) = list().await? {
            *self.written() = Some(Written { rules: rules.clone(), base: listing.base });
        }
        Ok(())
    }

    fn wrote(&self, ports: &PortMap) {
        if let Some(written) = self.written().as_mut() {
            written.rules.ports.clone_from(ports);
        }
    }

    /// What makes `rules` of those that were written last; none when more than ports differ.
    fn change_from_written(&self, rules: &Rules) -> Option<String> {
        let written = self.written();
        let written = &written.as_ref()?.rules;
        let same = Rules { ports: rules.ports.clone(), ..written.clone() } == *rules;
        if same { nft::change(&written.ports, &rules.ports) } else { None }
    }

    /// Whether the table stands as we wrote it, with `rules` differing in elements at most.
    fn is_as_written(&self, listing: &Listing, rules: &Rules) -> bool {
        self.written().as_ref().is_some_and(|written| {
            let same = Rules { ports: rules.ports.clone(), ..written.rules.clone() } == *rules;
            same && written.base == listing.base
        })
    }
}

#[async_trait]
impl Firewall for Nftables {
    async fn apply(&self, rules: &Rules) -> Result<(), FirewallError> {
        let listing = list().await?;
        let change = listing
            .as_ref()
            .filter(|listing| self.is_as_written(listing, rules))
            .and_then(|listing| nft::change(&listing.ports, &rules.ports));
        match change {
            Some(text) if text.is_empty() => self.wrote(&rules.ports),
            Some(text) => {
                let changed = run("nft", "nftables", &["-f", "-"], Some(&text)).await;
                if changed.is_err() {
                    self.replace(rules).await?;
                }
                self.wrote(&rules.ports);
            }
            None => {
                if listing.is_none() {
                    tracing::info!("writing the nftables table \"ip {}\"", nft::TABLE);
                } else {
                    tracing::debug!("replacing the nftables table \"ip {}\"", nft::TABLE);
                }
                self.replace(rules).await?;
            }
        }
        accept_in_docker_user().await
    }

    async fn change(&self, rules: &Rules) -> Result<(), FirewallError> {
        match self.change_from_written(rules) {
            Some(text) if text.is_empty() => Ok(()),
            Some(text) if run("nft", "nftables", &["-f", "-"], Some(&text)).await.is_ok() => {
                self.wrote(&rules.ports);
                Ok(())
            }
            // It is not as we left it.
            Some(_) | None => self.apply(rules).await,
        }
    }

    async fn published(&self) -> Result<Option<PortMap>, FirewallError> {
        Ok(list().await?.map(|listing| listing.ports))
    }

    async fn clear(&self) -> Result<(), FirewallError> {
        let text = format!("add table ip {0}\ndelete table ip {0}\n", nft::TABLE);
        run("nft", "nftables", &["-f", "-"], Some(&text)).await?;
        *self.written() = None;
        while iptables("-D").await.is_ok() {}
        Ok(())
    }
}

/// `None` when there is no table of ours.
async fn list() -> Result<Option<Listing>, FirewallError> {
    match run("nft", "nftables", &["-j", "list", "table", "ip", nft::TABLE], None).await {
        Ok(text) => listing::parse(&text).map(Some).map_err(FirewallError::Parse),
        Err(FirewallError::Refused { words, .. }) if words.contains("No such file") => Ok(None),
        Err(error) => Err(error),
    }
}

/// An accept in our table does not overrule a drop in Docker's: its own chain for users must let
/// published connections pass. Without that chain (no Docker, or not yet) there is nothing to pass.
async fn accept_in_docker_user() -> Result<(), FirewallError> {
    match iptables("-C").await {
        Ok(()) => Ok(()),
        Err(FirewallError::Refused { .. }) => match iptables("-I").await {
            Ok(()) | Err(FirewallError::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        },
        // A host without the program has no such chain either.
        Err(FirewallError::Run { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn iptables(verb: &str) -> Result<(), FirewallError> {
    let mark = format!("{:#x}", nft::MARK);
    let rule = ["-w", "5", verb, "DOCKER-USER", "-m", "connmark", "--mark", &mark, "-j", "ACCEPT"];
    run("iptables", "iptables", &rule, None).await.map(|_| ())
}

async fn run(
    program: &'static str,
    package: &'static str,
    arguments: &[&str],
    input: Option<&str>,
) -> Result<String, FirewallError> {
    let failed = |source| FirewallError::Run { program, package, source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let feeding = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A program that refuses early closes its end; its words say why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let running = async { tokio::join!(feeding, child.wait_with_output()).1 };
    let output = timeout(PROGRAM_MAX, running)
        .await
        .map_err(|_| FirewallError::Timeout { program })?
        .map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(FirewallError::Refused { program, words })
}
