//! Taking in what a node runs and this server has forgotten.

use std::collections::BTreeSet;

use knit_rpc::Timestamp;
use knit_rpc::event::EventKind;
use knit_rpc::id::{NodeId, ProjectName};
use knit_rpc::message::Generation;
use knit_rpc::signed::{self, Context};
use knit_runtime::clock;
use knit_server_core::adoption::{self, Adoption};
use knit_server_core::assignment::{self, SentAssignment};

use super::{App, AppError, World};
use crate::store;

impl App {
    /// Takes in the assignment that a node holds, if that is awaited of it. Returns its generation
    /// when it was the node's farewell: then the node is to be removed again, and until it is
    /// nothing changes, so that it is asked again should that fail.
    pub(super) async fn adopt(
        &self,
        world: &mut World,
        node_id: &NodeId,
        held: Option<&str>,
    ) -> Result<Option<Generation>, AppError> {
        let Some(node) = world.snapshot.nodes.get(node_id).filter(|node| node.adopting) else {
            return Ok(None);
        };
        let Some(held) = held else {
            tracing::debug!(node.id = %node_id, "its inventory lacks the assignment it holds");
            return Ok(None);
        };
        let Some(held) = self.own_word(node_id, held) else { return Ok(None) };
        if held.farewell && held.assignment.generation > node.published {
            tracing::warn!(node.id = %node_id, "a node was removed, and this server forgot that");
            return Ok(Some(held.assignment.generation));
        }
        let now = clock::now();
        // What was sent before the newest that is known tells nothing new: a node that shows it
        // wants back what was taken from it.
        let (adoption, epoch) = if held.assignment.generation > node.published {
            let epoch = adoption::epoch_above(world.snapshot.epoch, held.assignment.generation);
            (adoption::adopt(&world.snapshot, &held, now), epoch)
        } else {
            (Adoption::default(), world.snapshot.epoch)
        };
        let mut node = node.clone();
        node.adopting = false;
        // What it holds was sent to it in a former life: its next beat must not look forgotten.
        node.published = node.published.max(held.assignment.generation);
        node.generation = assignment::next(node.generation.max(held.assignment.generation), epoch);
        let unknown = unknown_projects(world, &adoption);
        self.store_adoption(&adoption, (&node, epoch), &unknown, now).await?;
        world.snapshot.epoch = epoch;
        tracing::info!(
            node.id = %node_id,
            deployments = adoption.deployments.len(),
            instances = adoption.instances.len(),
            given_up = adoption.dropped.len(),
            "took in what the node runs"
        );
        for ((project, name), (version, _)) in &adoption.secrets {
            tracing::warn!(
                %project, secret = %name, version,
                "nodes have a version of a secret whose value this server lost: set it again"
            );
        }
        adoption.apply(&mut world.snapshot);
        world.projects.extend(unknown.into_iter().map(|project| (project, now)));
        world.snapshot.nodes.insert(node_id.clone(), node);
        world.mark_all();
        for deployment in adoption.deployments.into_values() {
            self.feed.tell(
                now,
                EventKind::DeploymentChanged {
                    project: deployment.spec.project,
                    deployment: deployment.spec.name,
                    revision: deployment.revision,
                },
            );
        }
        Ok(None)
    }

    /// The held assignment, if this server signed it for this node in a former life.
    fn own_word(&self, node: &NodeId, held: &str) -> Option<SentAssignment> {
        let key = self.identity.public_key();
        let opened = signed::verify::<SentAssignment>(&key, Context::Assignment, held.as_bytes());
        match opened {
            Ok(sent) if sent.assignment.node == *node => Some(sent),
            Ok(sent) => {
                let other = sent.assignment.node;
                tracing::warn!(node.id = %node, %other, "a node showed another node's assignment");
                None
            }
            Err(error) => {
                tracing::warn!(node.id = %node, %error, "a node showed an assignment not of ours");
                None
            }
        }
    }

    async fn store_adoption(
        &self,
        adoption: &Adoption,
        (node, epoch): (&knit_server_core::Node, u64),
        projects: &BTreeSet<ProjectName>,
        now: Timestamp,
    ) -> Result<(), AppError> {
        let mut write = self.store.begin().await?;
        for project in projects {
            store::projects::put(&mut write, project, now).await?;
        }
        // A name is free only once the deployment that had it is removed.
        let (live, removed): (Vec<_>, Vec<_>) =
            adoption.deployments.values().partition(|one| one.removed_at.is_none());
        for deployment in removed.into_iter().chain(live) {
            store::deployments::put(&mut write, deployment).await?;
        }
        for (id, at) in &adoption.removed {
            store::deployments::note_removed(&mut write, id, *at).await?;
        }
        for (hash, spec) in &adoption.specs {
            store::deployments::put_spec(&mut write, hash, spec).await?;
        }
        for id in &adoption.dropped {
            store::deployments::remove_instance(&mut write, id).await?;
        }
        for network in adoption.networks.values() {
            store::networks::put(&mut write, network).await?;
        }
        for ((project, name), (number, version)) in &adoption.secrets {
            let at = (project, name, *number);
            store::secrets::put_without_value(&mut write, at, version).await?;
        }
        for instance in adoption.instances.values() {
            store::deployments::put_instance(&mut write, instance).await?;
        }
        store::set_epoch(&mut write, epoch).await?;
        store::nodes::put(&mut write, node).await?;
        store::commit(write).await?;
        Ok(())
    }
}

/// The projects of what was taken in that this server forgot as well.
fn unknown_projects(world: &World, adoption: &Adoption) -> BTreeSet<ProjectName> {
    let deployments = adoption.deployments.values().map(|deployment| &deployment.spec.project);
    let named = deployments
        .chain(adoption.volumes.keys().map(|volume| &volume.project))
        .chain(adoption.networks.keys().map(|(project, _)| project))
        .chain(adoption.secrets.keys().map(|(project, _)| project));
    named.filter(|project| !world.projects.contains_key(project)).cloned().collect()
}
