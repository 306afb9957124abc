//! What the loops know of one another: levels, never edges. Whoever looks late sees the newest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use knit_agent_core::template::NodeContext;
use knit_rpc::Timestamp;
use knit_rpc::id::{InstanceId, NodeId};
use knit_rpc::message::{Generation, InstanceStatus, Usage};
use knit_rpc::spec::VolumeName;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::config::Config;
use crate::engine::EngineInfo;
use crate::identity::Identity;
use crate::images::Images;
use crate::last_assignment::Assignment;
use crate::mesh::MeshAddress;
use crate::registration::Registration;

/// One agent's state, shared by its loops. Each value has one writer.
#[derive(Debug)]
pub struct Shared {
    pub config: Config,
    pub identity: Identity,
    pub boot: String,
    pub start: Timestamp,
    /// Written by `mesh::follow`.
    pub mesh: watch::Sender<Option<MeshAddress>>,
    /// Written by `session`.
    pub registration: watch::Sender<Option<Registration>>,
    /// Written by `loops::assignments`.
    pub assignment: watch::Sender<Option<Assignment>>,
    /// Written by `loops::reconcile`; none before Docker was read for the first time, because an
    /// inventory that says "nothing" must be true.
    pub inventory: watch::Sender<Option<Inventory>>,
    /// Written by `loops::reconcile`.
    pub engine: watch::Sender<EngineFacts>,
    /// Why the newest assignment cannot be kept, and so not be worked on. Written by
    /// `loops::assignments`.
    pub unkept: watch::Sender<Option<String>>,
    /// Written by `loops::peers`.
    pub unheard: watch::Sender<BTreeSet<String>>,
    /// Whether other nodes answered over the mesh, as the server asked; goes with the next beat.
    /// Written by `loops::assignments`, emptied by `loops::heartbeat`.
    pub probed: watch::Sender<BTreeMap<NodeId, bool>>,
    /// What is here of what users named. Written by `loops::reconcile`.
    pub volumes: watch::Sender<BTreeSet<VolumeName>>,
    /// Written by `loops::upkeep`.
    pub host: watch::Sender<HostFacts>,
    pub images: Images,
    /// Counts how often a full report was asked for.
    pub asked: watch::Sender<Asked>,
}

/// Requests for a full report so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    pub times: u64,
    /// Whether the next full report should carry the assignment that the node holds.
    pub held: bool,
}

/// What Docker says of itself, and what keeps it from working.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineFacts {
    pub info: Option<EngineInfo>,
    pub trouble: Option<String>,
}

/// How full the host is, and which images are here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Bytes of the file system that Docker stores on; 0 where it cannot be seen.
    pub disk: u64,
    pub usage: Usage,
    /// By the names that instances use.
    pub images: BTreeSet<String>,
}

/// Every instance on this node, as last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    pub instances: BTreeMap<InstanceId, InstanceStatus>,
    /// Of the assignment that it was compared with.
    pub applied: Generation,
}

impl Inventory {
    /// 16 hex digits that differ when any instance does.
    pub fn digest(&self) -> String {
        let text = serde_json::to_vec(&self.instances).unwrap_or_default();
        hex::encode(&Sha256::digest(text)[..8])
    }
}

impl Shared {
    pub fn new(
        config: Config,
        identity: Identity,
        registration: Option<Registration>,
        assignment: Option<Assignment>,
    ) -> Self {
        let images = Images::load(&config.state_dir);
        Self {
            config,
            identity,
            boot: crate::host::boot(),
            start: knit_runtime::clock::now(),
            mesh: watch::Sender::new(None),
            registration: watch::Sender::new(registration),
            assignment: watch::Sender::new(assignment),
            inventory: watch::Sender::new(None),
            engine: watch::Sender::default(),
            unkept: watch::Sender::default(),
            unheard: watch::Sender::default(),
            probed: watch::Sender::default(),
            volumes: watch::Sender::default(),
            host: watch::Sender::default(),
            images,
            asked: watch::Sender::default(),
        }
    }

    /// Generation of the assignment that the node works on.
    pub fn applied(&self) -> Generation {
        self.assignment.borrow().as_ref().map(|held| held.generation).unwrap_or_default()
    }

    /// The node's place in the mesh: as it is, or as it last was.
    pub fn place(&self) -> Option<(Ipv4Addr, String)> {
        let joined = self.mesh.borrow().as_ref().map(|mesh| (mesh.ip, mesh.interface.clone()));
        joined.or_else(|| {
            let registration = self.registration.borrow();
            registration.as_ref().map(|last| (last.mesh_ip, last.mesh_interface.clone()))
        })
    }

    /// What templates may ask of this node.
    pub fn node_context(&self) -> Option<NodeContext> {
        let (mesh_ip, mesh_interface) = self.place()?;
        Some(NodeContext {
            id: self.identity.node.clone(),
            name: self.config.name.clone(),
            labels: self.config.labels.clone(),
            mesh_ip,
            mesh_interface,
        })
    }

    /// Asks for a full report, by whoever reports.
    pub fn ask_report(&self, held: bool) {
        self.asked.send_modify(|asked| {
            asked.times += 1;
            asked.held |= held;
        });
    }
}
