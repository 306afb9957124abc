//! What nodes say of their instances, stored in batches.

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::event::EventKind;
use knit_rpc::id::{ClusterId, InstanceId, NodeId};
use knit_rpc::message::{InstanceReport, InstanceStatus};
use knit_runtime::clock;

use super::{App, AppError, World};
use crate::store::{self, StoredReport};

/// A report and the node that NATS let speak on the subject.
#[derive(Debug, Clone)]
pub struct Received {
    pub sender: NodeId,
    pub report: InstanceReport,
}

impl App {
    /// Stores reports in one transaction. Old and repeated ones count as stored; returns the
    /// nodes that are none of ours, whose reports were passed over.
    pub async fn store_reports(
        &self,
        mut received: Vec<Received>,
    ) -> Result<BTreeSet<NodeId>, AppError> {
        let mut world = self.world().await;
        let strangers = strangers(&world, &received, &self.identity.cluster);
        received.retain(|received| !strangers.contains(&received.sender));
        let fresh = fresh(&world, received);
        if fresh.is_empty() {
            return Ok(strangers);
        }
        let mut write = self.store.begin().await?;
        for Received { sender, report } in &fresh {
            if report.full {
                store::reports::replace(&mut write, sender, &by_id(report)).await?;
            } else {
                for status in &report.instances {
                    store::reports::put(&mut write, sender, status).await?;
                }
            }
            for instance in &report.removed {
                store::reports::remove(&mut write, sender, instance).await?;
            }
            store::reports::set_last(&mut write, sender, order(report)).await?;
        }
        store::commit(write).await?;
        let mut removed = BTreeMap::new();
        for Received { sender, report } in fresh {
            self.observe(&mut world, &sender, &report);
            if !report.full {
                continue;
            }
            if let Some(farewell) = self.adopt(&mut world, &sender, report.held.as_deref()).await? {
                removed.insert(sender, farewell);
            }
        }
        drop(world);
        for (node, farewell) in removed {
            self.remove_again(&node, farewell).await?;
        }
        self.wake_planner.notify_one();
        Ok(strangers)
    }

    /// Carries a stored report over into memory, and tells what changed.
    fn observe(&self, world: &mut World, node: &NodeId, report: &InstanceReport) {
        world.last_reports.insert(node.clone(), order(report));
        world.reported.insert(node.clone());
        let before = world.snapshot.observed.get(node).cloned().unwrap_or_default();
        let mut after = if report.full { BTreeMap::new() } else { before.clone() };
        after.extend(by_id(report));
        for instance in &report.removed {
            after.remove(instance);
        }
        for status in after.values() {
            let was = before.get(&status.id);
            if was.is_none_or(|was| was.phase != status.phase || was.message != status.message) {
                self.tell(node, status, status.phase.as_str());
                world.mark(status.deployment_id.clone());
            }
        }
        for status in before.values().filter(|status| !after.contains_key(&status.id)) {
            self.tell(node, status, "removed");
            world.mark(status.deployment_id.clone());
        }
        world.snapshot.observe(node, after, clock::now());
    }

    fn tell(&self, node: &NodeId, status: &InstanceStatus, phase: &str) {
        self.feed.tell(
            clock::now(),
            EventKind::InstanceChanged {
                project: status.project.clone(),
                deployment: status.deployment.clone(),
                slot: status.slot,
                instance: status.id.clone(),
                node: node.clone(),
                phase: phase.to_owned(),
                message: status.message.clone(),
            },
        );
    }
}

/// Senders that this server does not know, or that speak for others.
fn strangers(world: &World, received: &[Received], cluster: &ClusterId) -> BTreeSet<NodeId> {
    let is_known = |received: &&Received| {
        received.report.cluster == *cluster
            && received.report.node == received.sender
            && world.snapshot.nodes.contains_key(&received.sender)
    };
    let strange = received.iter().filter(|received| !is_known(received));
    strange.map(|received| received.sender.clone()).collect()
}

/// The reports that tell something new, each node's in order.
fn fresh(world: &World, received: Vec<Received>) -> Vec<Received> {
    let mut last: BTreeMap<NodeId, StoredReport> = BTreeMap::new();
    let mut fresh = Vec::new();
    for received in received {
        let Received { sender, report } = &received;
        let newest = last.get(sender).or_else(|| world.last_reports.get(sender));
        if newest.is_some_and(|newest| order(report) <= *newest) {
            continue;
        }
        last.insert(sender.clone(), order(report));
        fresh.push(received);
    }
    fresh
}

fn order(report: &InstanceReport) -> StoredReport {
    (report.agent_start.as_millis(), report.sequence)
}

fn by_id(report: &InstanceReport) -> BTreeMap<InstanceId, InstanceStatus> {
    report.instances.iter().map(|status| (status.id.clone(), status.clone())).collect()
}
