//! What there is on this node: read from Docker, from the host, and from the agent's own memory
//! of what it is doing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::{InstanceId, SecretName};
use knit_rpc::spec::{NodePolicy, Protocol, VolumeName};

use crate::backoff;
use crate::network::{Network, Route};
use crate::publish::{PortMap, Target};

pub use crate::memory::{Fault, Log, Memory, Restarts, Step, Tidying};

/// Everything that a decision looks at besides what is desired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Containers that carry any of our labels; whose they are is checked, not assumed.
    pub containers: Vec<Container>,
    /// Images that are here, among those that instances want.
    pub images: BTreeSet<String>,
    /// All networks of the engine's.
    pub networks: Vec<Network>,
    /// Our volumes that are here.
    pub volumes: BTreeSet<VolumeName>,
    /// Where the host's own addresses and routes lead.
    pub routes: Vec<Route>,
    /// Instances that have a directory of files.
    pub files: BTreeSet<InstanceId>,
    /// Instances that have files in memory, with the versions of the secrets in them.
    pub secrets: BTreeMap<InstanceId, BTreeMap<SecretName, u64>>,
    /// The ports as they are published now.
    pub published: PortMap,
    /// Where nothing accepts connections yet; asked only of containers without a ready probe that
    /// are to take a port over from another one.
    pub deaf: BTreeSet<Target>,
    /// What listens on the host's own ports.
    pub listeners: Vec<Listener>,
    /// Addresses of the host's interfaces.
    pub interfaces: BTreeMap<String, BTreeSet<Ipv4Addr>>,
    /// What this node lets containers have of it.
    pub policy: NodePolicy,
    pub memory: Memory,
}

/// A container as the engine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub state: ContainerState,
    /// That it is on right now, with an IPv4 address or without; the host's own is one of them.
    pub networks: BTreeSet<String>,
    /// By network.
    pub addresses: BTreeMap<String, Ipv4Addr>,
    pub image_id: Option<String>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub exit_code: Option<i64>,
    /// Why the engine could not start it; empty when it could.
    pub error: String,
    /// What its image's own HEALTHCHECK says; none when it has none, or does not run.
    pub healthcheck: Option<Healthcheck>,
}

/// What Docker's own HEALTHCHECK says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    pub state: HealthState,
    /// From the container's start until the first answer may be there.
    pub first_within: Duration,
    /// The last answer, shortened; empty before there is one.
    pub answer: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthState {
    Starting,
    Healthy,
    Unhealthy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerState {
    Created,
    Running,
    Paused,
    Exited,
    Removing,
    Dead,
}

impl ContainerState {
    /// Whether its process lives.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl Container {
    /// The address that ports lead to: on the node's own network where it has one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        let own = self.addresses.get(crate::container::NETWORK);
        own.or_else(|| self.addresses.values().next()).copied()
    }

    /// Whether it was taken off its network while it runs: nobody reaches it.
    pub fn is_cut_off(&self) -> bool {
        self.state == ContainerState::Running && self.networks.is_empty()
    }

    /// How much longer one that has ended before has to be up until it counts as running; none
    /// when it does, or is not up.
    pub fn settles_in(&self, now: Timestamp) -> Option<Duration> {
        let started = self.started_at.filter(|_| self.state.is_up())?;
        // The clock was set back: nobody knows how long it has been up.
        if started > now {
            return None;
        }
        self.finished_at?;
        let left = backoff::SETTLE_AGAIN.saturating_sub(now.since(started));
        (!left.is_zero()).then_some(left)
    }

    /// Whether it last ran long enough to count as started.
    pub fn was_stable(&self) -> bool {
        match (self.started_at, self.finished_at) {
            (Some(start), Some(end)) => end.since(start) >= backoff::STABLE_AFTER,
            _ => false,
        }
    }
}

/// A socket of the host's that listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    pub protocol: Protocol,
    /// None when it listens on every address.
    pub address: Option<Ipv4Addr>,
    pub port: u16,
    /// Such as `sshd (pid 812)`.
    pub process: String,
}
