//! What the agent can do. Each action is idempotent: doing it twice changes nothing.

use knit_rpc::id::InstanceId;
use knit_rpc::spec::VolumeName;

use crate::network::NetworkPlan;
use crate::publish::PortMap;
use crate::volume::VolumePlan;

/// One step towards what is desired.
///
/// Actions of one instance are done in order and stop at the first that fails; different
/// instances go on side by side. `Publish` is done before everything that follows it. What clears
/// away networks and volumes is done beside them, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the published ports exactly these.
    Publish(PortMap),
    Pull {
        instance: InstanceId,
        image: String,
    },
    /// Write what the instance's container is to find: rendered templates, and secrets.
    WriteFiles {
        instance: InstanceId,
    },
    /// Make a network that the instance joins, unless it is there.
    EnsureNetwork {
        instance: InstanceId,
        network: NetworkPlan,
    },
    /// Make a volume that the instance mounts, unless it is there.
    EnsureVolume {
        instance: InstanceId,
        volume: VolumePlan,
    },
    Create {
        instance: InstanceId,
    },
    /// Start a container, named by id or by name. `again` after it had run before.
    Start {
        instance: InstanceId,
        container: String,
        again: bool,
    },
    /// Ask the container to end, then make it.
    Stop {
        instance: InstanceId,
        container: String,
    },
    Remove {
        instance: InstanceId,
        container: String,
    },
    RemoveFiles {
        instance: InstanceId,
    },
    /// Remove a network, by Docker's name, that no instance joins.
    RemoveNetwork(String),
    /// Remove a volume with its data.
    RemoveVolume(VolumeName),
    /// Ask a container to end that is of no use as it is, then make it; it is started again later.
    GiveUp {
        instance: InstanceId,
        container: String,
        why: GivenUp,
        reason: String,
    },
    /// Replace the files of secrets in a running container, and send it the signals.
    RefreshSecrets {
        instance: InstanceId,
        container: String,
        signals: Vec<String>,
    },
    /// Do nothing but remember why the instance cannot run now.
    Fail {
        instance: InstanceId,
        reason: String,
    },
}

impl Action {
    /// The ports to be published, when it is about them.
    pub fn ports(&self) -> Option<&PortMap> {
        if let Self::Publish(ports) = self { Some(ports) } else { None }
    }

    /// Whether it clears away what no instance needs any more.
    pub fn tidies(&self) -> bool {
        matches!(self, Self::RemoveNetwork(_) | Self::RemoveVolume(_))
    }

    /// The instance that the action is about; none for what concerns the whole node.
    pub fn instance(&self) -> Option<&InstanceId> {
        match self {
            Self::Publish(_) | Self::RemoveNetwork(_) | Self::RemoveVolume(_) => None,
            Self::Pull { instance, .. }
            | Self::WriteFiles { instance }
            | Self::RefreshSecrets { instance, .. }
            | Self::EnsureNetwork { instance, .. }
            | Self::EnsureVolume { instance, .. }
            | Self::Create { instance }
            | Self::Start { instance, .. }
            | Self::Stop { instance, .. }
            | Self::Remove { instance, .. }
            | Self::RemoveFiles { instance }
            | Self::GiveUp { instance, .. }
            | Self::Fail { instance, .. } => Some(instance),
        }
    }

    /// Whether it clears away what an instance leaves behind.
    pub fn clears(&self) -> bool {
        matches!(self, Self::Stop { .. } | Self::Remove { .. } | Self::RemoveFiles { .. })
    }

    /// Whether it ends a container's process.
    pub fn stops(&self) -> bool {
        matches!(self, Self::Stop { .. } | Self::GiveUp { .. })
    }
}

/// Why a container that is up is stopped although it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUp {
    /// It did not become ready in time: it is tried again, but waiting is not expected to help.
    Late,
    /// It is not alive any more.
    Dead,
}
