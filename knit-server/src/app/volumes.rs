//! Volumes: looking at them, and giving their data up.

use knit_rpc::Timestamp;
use knit_rpc::api::VolumeView;
use knit_rpc::id::{NodeId, ProjectName};
use knit_rpc::spec::VolumeName;
use knit_server_core::snapshot::Volume;
use knit_server_core::{Node, Snapshot, assignment, volumes};

use super::{App, AppError, World};
use crate::store::{self, Write};

impl App {
    pub async fn volumes(&self, project: Option<&ProjectName>) -> Vec<VolumeView> {
        let world = self.world().await;
        volumes::views(&world.snapshot, &world.verdicts, project)
    }

    /// The volumes that a text names: `data`, or only `data.0`.
    pub async fn volume(
        &self,
        project: &ProjectName,
        text: &str,
    ) -> Result<Vec<VolumeView>, AppError> {
        let world = self.world().await;
        let names = volumes::named(&world.snapshot, project, text);
        if names.is_empty() {
            return Err(AppError::NotFound(no_volume(project, text)));
        }
        let all = volumes::views(&world.snapshot, &world.verdicts, Some(project)).into_iter();
        Ok(all.filter(|view| names.contains(&view.volume)).collect())
    }

    /// Removes volumes with their data; their nodes do it when they can be reached.
    pub async fn remove_volume(&self, project: &ProjectName, text: &str) -> Result<(), AppError> {
        let mut world = self.world().await;
        let names = volumes::named(&world.snapshot, project, text);
        if names.is_empty() {
            return Err(AppError::NotFound(no_volume(project, text)));
        }
        for name in &names {
            let users = volumes::users(&world.snapshot, name);
            if !users.is_empty() {
                return Err(AppError::Conflict(format!(
                    "volume {} is used by {}: undeploy that first",
                    short(name),
                    users.join(", ")
                )));
            }
        }
        let removal = Removal::of(&world.snapshot, names);
        let mut write = self.store.begin().await?;
        removal.store(&mut write).await?;
        store::commit(write).await?;
        removal.apply(&mut world);
        self.wake_publisher.notify_one();
        self.wake_planner.notify_one();
        Ok(())
    }

    /// Forgets the volumes that their nodes have removed.
    pub(crate) async fn forget_volumes(
        &self,
        world: &mut World,
        now: Timestamp,
    ) -> Result<(), AppError> {
        let gone = volumes::gone(&world.snapshot);
        if gone.is_empty() {
            return Ok(());
        }
        let mut write = self.store.begin().await?;
        for name in &gone {
            store::volumes::remove(&mut write, name).await?;
        }
        store::commit(write).await?;
        for name in gone {
            tracing::info!(volume = %name, at = now.as_millis(), "a volume is gone with its data");
            world.snapshot.volumes.remove(&name);
        }
        // What waits for one of that name may have a new one.
        world.mark_all();
        Ok(())
    }
}

/// Volumes that are marked as being removed, and the nodes that have to be told.
pub(super) struct Removal {
    volumes: Vec<(VolumeName, Volume)>,
    nodes: Vec<Node>,
}

impl Removal {
    pub(super) fn of(snapshot: &Snapshot, names: impl IntoIterator<Item = VolumeName>) -> Self {
        let marked = names.into_iter().filter_map(|name| {
            let volume = snapshot.volumes.get(&name).filter(|volume| !volume.removing)?;
            Some((name, Volume { removing: true, ..volume.clone() }))
        });
        let volumes: Vec<(VolumeName, Volume)> = marked.collect();
        let nodes = next_generations(snapshot, volumes.iter().map(|(_, volume)| &volume.node));
        Self { volumes, nodes }
    }

    pub(super) async fn store(&self, write: &mut Write) -> Result<(), AppError> {
        for (name, volume) in &self.volumes {
            store::volumes::put(write, name, volume).await?;
        }
        for node in &self.nodes {
            store::nodes::put(write, node).await?;
        }
        Ok(())
    }

    pub(super) fn apply(self, world: &mut World) {
        world.snapshot.volumes.extend(self.volumes);
        for node in self.nodes {
            world.snapshot.nodes.insert(node.id.clone(), node);
        }
    }
}

/// The nodes, each with the generation after its present one: something else than which instances
/// are theirs is to be sent to them.
pub(super) fn next_generations<'a>(
    snapshot: &Snapshot,
    nodes: impl Iterator<Item = &'a NodeId>,
) -> Vec<Node> {
    let ids: std::collections::BTreeSet<&NodeId> = nodes.collect();
    let known = ids.into_iter().filter_map(|id| snapshot.nodes.get(id));
    known
        .map(|node| {
            let generation = assignment::next(node.generation, snapshot.epoch);
            Node { generation, ..node.clone() }
        })
        .collect()
}

fn no_volume(project: &ProjectName, text: &str) -> String {
    format!("there is no volume {text} in project {project}")
}

/// As people name it within its project.
fn short(name: &VolumeName) -> String {
    name.slot.map_or_else(|| name.name.clone(), |slot| format!("{}.{slot}", name.name))
}
