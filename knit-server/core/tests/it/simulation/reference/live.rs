//! The containers that are up, whoever knows of them.

use std::net::Ipv4Addr;
use std::time::Duration;

use knit_agent_core::container::Identity;
use knit_rpc::api::NodeState;
use knit_rpc::id::NodeId;
use knit_rpc::spec::VolumeName;

use crate::simulation::image::Kind;
use crate::simulation::world::World;

/// How long the server must have known that an instance runs.
const PROVEN_AFTER: Duration = Duration::from_secs(2);

/// A container that is up.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says another thing of it")]
pub(in crate::simulation) struct Live {
    pub(super) node: NodeId,
    pub(super) container: String,
    pub(super) name: String,
    pub(super) identity: Identity,
    pub(super) address: Option<Ipv4Addr>,
    /// It accepts connections.
    pub(super) serves: bool,
    pub(super) kind: Kind,
    /// Volumes that it writes to.
    pub(super) writes: Vec<VolumeName>,
    /// Its host's agent wants it.
    pub(super) wanted: bool,
    /// It may take no port yet.
    pub(super) held: bool,
    /// The server has known for a while that it runs.
    pub(super) proven: bool,
    /// The server hears its host, and finds it ready.
    pub(super) heard: bool,
}

/// All of them.
pub(super) fn all(world: &World) -> Vec<Live> {
    let snapshot = &world.server.snapshot;
    let mut found = Vec::new();
    for (id, host) in &world.hosts {
        let heard = world.server.up
            && world.paths[id].connected
            && world.server.verdicts.state(id) == Some(NodeState::Ready);
        for (identity, container) in host.ours() {
            if !container.state.is_up() {
                continue;
            }
            let mut assigned = host.disk.iter().flat_map(|held| &held.instances);
            let assigned = assigned.find(|one| one.id == identity.instance);
            let is_decided = snapshot.instances.contains_key(&identity.instance);
            let since = snapshot.healthy_since.get(&identity.instance);
            found.push(Live {
                node: id.clone(),
                container: container.id.clone(),
                name: container.name.clone(),
                address: container.address(),
                serves: host.engine.serves(&container.id, world.now),
                kind: host.engine.kind_of(&container.id),
                writes: writes(world, &identity),
                identity,
                wanted: assigned.is_some(),
                held: assigned.is_some_and(|one| one.held),
                proven: is_decided
                    && since.is_some_and(|since| world.now.since(*since) >= PROVEN_AFTER),
                heard,
            });
        }
    }
    found
}

impl Live {
    /// `d1.0 r2 on n3`.
    pub(super) fn words(&self, world: &World) -> String {
        let Identity { deployment, slot, revision, .. } = &self.identity;
        let name = &world.hosts[&self.node].name;
        format!("{deployment}.{slot} r{revision} ({}) on {name}", self.container)
    }

    /// The volumes of its labels.
    pub(super) fn volumes(&self) -> impl Iterator<Item = &VolumeName> {
        self.identity.volumes.iter()
    }
}

fn writes(world: &World, identity: &Identity) -> Vec<VolumeName> {
    let snapshot = &world.server.snapshot;
    let known = snapshot.specs.get(&identity.spec);
    let mounts = known.map_or(&[][..], |spec| &spec.volumes).iter();
    let names = mounts.filter(|mount| !mount.read_only);
    names.map(|mount| VolumeName::of(&identity.project, mount, identity.slot)).collect()
}
