//! Instances as the API shows them: what was decided, and what nodes still report.

use knit_rpc::api::InstanceView;
use knit_rpc::id::NodeId;
use knit_rpc::message::{InstanceStatus, Phase};

use crate::snapshot::{Deployment, Instance, Node, Snapshot};

/// All instances: those decided, and those that nodes still report.
pub fn instances(snapshot: &Snapshot) -> Vec<InstanceView> {
    let decided = snapshot.instances.values().filter_map(|instance| {
        let deployment = snapshot.deployments.get(&instance.deployment)?;
        Some(decided_view(snapshot, deployment, instance))
    });
    let reported = snapshot
        .observed
        .iter()
        .flat_map(|(node, statuses)| statuses.values().map(move |status| (node, status)));
    sorted(decided.chain(leftovers(snapshot, reported)))
}

/// A deployment's instances: those decided, and those that nodes still report.
pub(super) fn of_deployment(snapshot: &Snapshot, deployment: &Deployment) -> Vec<InstanceView> {
    let decided = snapshot.instances.of_deployment(&deployment.id);
    let decided = decided.map(|instance| decided_view(snapshot, deployment, instance));
    let reported = snapshot.observed.of_deployment(&deployment.id);
    sorted(decided.chain(leftovers(snapshot, reported)))
}

fn decided_view(snapshot: &Snapshot, deployment: &Deployment, instance: &Instance) -> InstanceView {
    let node = snapshot.nodes.get(&instance.node);
    let mut view = InstanceView {
        id: instance.id.clone(),
        project: deployment.spec.project.clone(),
        deployment: deployment.spec.name.clone(),
        slot: instance.slot,
        revision: instance.revision,
        node: instance.node.clone(),
        node_name: node.map_or_else(|| instance.node.to_string(), |node| node.name().to_owned()),
        mesh_ip: node.and_then(Node::mesh_ip),
        phase: Phase::Pending,
        wanted: true,
        message: None,
        container: None,
        address: None,
        ports: Vec::new(),
        started_at: None,
        exit_code: None,
        restarts: 0,
        pull: None,
        log: Vec::new(),
        because: Some(instance.because.clone()).filter(|text| !text.is_empty()),
    };
    if let Some(status) = snapshot.observed_of(instance) {
        view.phase = status.phase;
        view.message.clone_from(&status.message);
        view.container.clone_from(&status.container);
        view.address = status.address;
        view.ports.clone_from(&status.ports);
        view.started_at = status.started_at;
        view.exit_code = status.exit_code;
        view.restarts = status.restarts;
        view.pull = status.pull;
        view.log.clone_from(&status.log);
    }
    view
}

/// What nodes report and nobody wants any more.
fn leftovers<'a>(
    snapshot: &'a Snapshot,
    reported: impl Iterator<Item = (&'a NodeId, &'a InstanceStatus)> + 'a,
) -> impl Iterator<Item = InstanceView> + 'a {
    let leftover = reported.filter(|(_, status)| !snapshot.instances.contains_key(&status.id));
    leftover.map(|(id, status)| {
        let node = snapshot.nodes.get(id);
        InstanceView {
            id: status.id.clone(),
            project: status.project.clone(),
            deployment: status.deployment.clone(),
            slot: status.slot,
            revision: status.revision,
            node: id.clone(),
            node_name: node.map_or_else(|| id.to_string(), |node| node.name().to_owned()),
            mesh_ip: node.and_then(Node::mesh_ip),
            phase: status.phase,
            wanted: false,
            message: status.message.clone(),
            container: status.container.clone(),
            address: status.address,
            ports: status.ports.clone(),
            started_at: status.started_at,
            exit_code: status.exit_code,
            restarts: status.restarts,
            pull: status.pull,
            log: status.log.clone(),
            because: None,
        }
    })
}

fn sorted(views: impl Iterator<Item = InstanceView>) -> Vec<InstanceView> {
    let mut views: Vec<InstanceView> = views.collect();
    views.sort_by(|a, b| {
        (&a.project, &a.deployment, a.slot, a.revision, &a.id).cmp(&(
            &b.project,
            &b.deployment,
            b.slot,
            b.revision,
            &b.id,
        ))
    });
    views
}
