//! What the script tells of a host, and whether that host will do.

use std::time::Duration;

use anyhow::ensure;
use knit_rpc::Timestamp;
use knit_rpc::id::NodeId;
use knit_runtime::ssh::Target;

/// Tokens of the mesh and of NATS are good from one moment to another.
const SKEW_MAX: Duration = Duration::from_mins(1);

/// `KEY=VALUE` lines of the script's standard output.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    clock_secs: Option<u64>,
    arch: Option<String>,
    /// It has a mesh daemon that answers, or a mesh secret.
    pub(super) in_mesh: bool,
    /// The node that it is registered as.
    pub(super) node: Option<NodeId>,
}

impl Facts {
    pub(super) fn read(text: &str) -> Self {
        let mut facts = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "clock" => facts.clock_secs = value.parse().ok(),
                "arch" => facts.arch = Some(value.to_owned()),
                "mesh" => facts.in_mesh = value == "yes",
                "node" => facts.node = NodeId::parse(value).ok(),
                _ => {}
            }
        }
        facts
    }

    /// Its processor, as Rust calls it; that of this machine where it did not say.
    pub(super) fn arch(&self) -> &str {
        self.arch.as_deref().unwrap_or(std::env::consts::ARCH)
    }

    /// Whether its clock is right.
    pub(super) fn judge(&self, asked_at: Timestamp, host: &Target) -> anyhow::Result<()> {
        if let Some(clock) = self.clock_secs {
            let skew = clock.abs_diff(asked_at.as_millis() / 1000);
            ensure!(
                skew <= SKEW_MAX.as_secs(),
                "the clocks of {host} and of this machine differ by {skew} s, and {} s is the most \
                 that the mesh bears: set the wrong one",
                SKEW_MAX.as_secs()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_will_do_when_its_clock_is_right() {
        let host = Target::parse("root@fra-1").unwrap();
        let at = Timestamp::from_millis(1_000_000_000);
        let judge = |text: &str| Facts::read(text).judge(at, &host);
        assert!(judge("clock=1000030\nmesh=yes\nodd").is_ok());
        let late = judge("clock=990000").unwrap_err().to_string();
        assert!(late.contains("differ by 10000 s"), "{late}");
        assert_eq!(Facts::read("arch=riscv64").arch(), "riscv64");
        assert_eq!(Facts::read("").arch(), std::env::consts::ARCH);
        let facts = Facts::read(&format!("mesh=\nnode={}\n", "a".repeat(32)));
        assert!(!facts.in_mesh && facts.node.is_some());
        assert_eq!(Facts::read("node=\n"), Facts::default());
    }
}
