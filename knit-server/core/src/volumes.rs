//! Where data is, who uses it, and when it is gone.

use std::collections::BTreeSet;

use knit_rpc::api::{NodeState, VolumeState, VolumeView};
use knit_rpc::id::{DeploymentId, ProjectName};
use knit_rpc::spec::{DeploymentSpec, InstanceSpec, Mode, VolumeName};

use crate::liveness::Verdicts;
use crate::snapshot::{Snapshot, Volume};

/// Every volume of a project, or of all.
pub fn views(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    project: Option<&ProjectName>,
) -> Vec<VolumeView> {
    let volumes = snapshot.volumes.iter();
    volumes
        .filter(|(name, _)| project.is_none_or(|project| name.project == *project))
        .map(|(name, volume)| view(snapshot, verdicts, name, volume))
        .collect()
}

/// The volumes that a text names: `data` is all of that name, `data.0` only slot 0's.
pub fn named(snapshot: &Snapshot, project: &ProjectName, text: &str) -> Vec<VolumeName> {
    let Ok(wanted) = VolumeName::parse(&format!("{project}/{text}")) else { return Vec::new() };
    let is_meant = |name: &&VolumeName| {
        name.project == wanted.project
            && name.name == wanted.name
            && (wanted.slot.is_none() || name.slot == wanted.slot)
    };
    snapshot.volumes.keys().filter(is_meant).cloned().collect()
}

/// The slots that use a volume or will, such as `db.0`.
pub fn users(snapshot: &Snapshot, volume: &VolumeName) -> Vec<String> {
    let mut found: BTreeSet<(String, u32)> = BTreeSet::new();
    for deployment in snapshot.deployments.values().filter(|d| d.removed_at.is_none()) {
        let spec = &deployment.spec;
        if spec.project != volume.project {
            continue;
        }
        let name = spec.name.to_string();
        found.extend(wanting(spec, volume).into_iter().map(|slot| (name.clone(), slot)));
        let running = snapshot.instances.of_deployment(&deployment.id).filter(|instance| {
            let spec = snapshot.spec_of(instance);
            spec.is_some_and(|spec| mounts(spec, volume, instance.slot))
        });
        found.extend(running.map(|instance| (name.clone(), instance.slot)));
    }
    found.into_iter().map(|(name, slot)| format!("{name}.{slot}")).collect()
}

/// The volumes of a deployment's slots, those of former ones included, that nobody else uses.
pub fn only_of(snapshot: &Snapshot, deployment: &DeploymentId) -> BTreeSet<VolumeName> {
    let Some(deployment) = snapshot.deployments.get(deployment) else { return BTreeSet::new() };
    let mounts = &deployment.spec.instance.volumes;
    let is_own = |volume: &VolumeName| {
        volume.project == deployment.spec.project
            && mounts
                .iter()
                .any(|mount| mount.name == volume.name && mount.shared == volume.slot.is_none())
    };
    let own = format!("{}.", deployment.spec.name);
    let candidates = snapshot.volumes.keys().filter(|volume| is_own(volume));
    let alone = candidates
        .filter(|volume| users(snapshot, volume).iter().all(|user| user.starts_with(&own)));
    alone.cloned().collect()
}

/// Volumes that are to be removed and that their nodes have no more: a node that works on its
/// newest assignment knows of the removal, and says what it has.
pub fn gone(snapshot: &Snapshot) -> Vec<VolumeName> {
    let removing = snapshot.volumes.iter().filter(|(_, volume)| volume.removing);
    removing
        .filter(|(name, volume)| match snapshot.nodes.get(&volume.node) {
            Some(node) => {
                node.last_beat.is_some()
                    && node.applied >= node.generation
                    && !node.facts.volumes.contains(name)
            }
            None => true,
        })
        .map(|(name, _)| name.clone())
        .collect()
}

fn view(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    name: &VolumeName,
    volume: &Volume,
) -> VolumeView {
    let node = snapshot.nodes.get(&volume.node);
    let lost = verdicts.state(&volume.node).is_none_or(|state| state == NodeState::Lost);
    let state = match node {
        _ if volume.removing => VolumeState::Removing,
        Some(node) if !lost && node.facts.volumes.contains(name) => VolumeState::Present,
        Some(_) if !lost => VolumeState::Awaited,
        Some(_) | None => VolumeState::Lost,
    };
    VolumeView {
        volume: name.clone(),
        state,
        node_name: node.map_or_else(|| volume.node.to_string(), |node| node.name().to_owned()),
        node: volume.node.clone(),
        used_by: users(snapshot, name),
        created_at: volume.created_at,
        docker_name: name.docker_name(),
    }
}

/// The slots that a deployment wants to have the volume in.
fn wanting(spec: &DeploymentSpec, volume: &VolumeName) -> Vec<u32> {
    match (spec.mode, volume.slot) {
        (Mode::Replicated, Some(slot)) => {
            let wants = slot < spec.replicas && mounts(&spec.instance, volume, slot);
            wants.then_some(slot).into_iter().collect()
        }
        (Mode::Replicated, None) if mounts(&spec.instance, volume, 0) => {
            (0..spec.replicas).collect()
        }
        // Which slots are on every node is for the nodes to say: those with an instance count.
        (Mode::Replicated | Mode::EveryNode, _) => Vec::new(),
    }
}

fn mounts(spec: &InstanceSpec, volume: &VolumeName, slot: u32) -> bool {
    spec.volumes.iter().any(|mount| {
        mount.name == volume.name && VolumeName::of(&volume.project, mount, slot) == *volume
    })
}

#[cfg(test)]
mod tests {
    use knit_rpc::spec::VolumeMount;

    use super::*;
    use crate::liveness;
    use crate::testing::*;

    fn with_volume(image: &str, name: &str, shared: bool) -> InstanceSpec {
        let mount = VolumeMount {
            name: name.to_owned(),
            path: "/data".to_owned(),
            read_only: false,
            shared,
        };
        InstanceSpec { volumes: vec![mount], ..instance_spec(image) }
    }

    fn name(text: &str) -> VolumeName {
        VolumeName::parse(&format!("default/{text}")).unwrap()
    }

    fn shown(snapshot: &Snapshot) -> Vec<String> {
        let verdicts = liveness::judge(snapshot, NOW);
        let views = views(snapshot, &verdicts, None).into_iter();
        views
            .map(|view| {
                let users = view.used_by.join(" ");
                format!("{} {:?} on {} by {users}", view.volume, view.state, view.node_name)
            })
            .collect()
    }

    #[test]
    fn who_uses_a_volume_and_where_it_stands_is_shown() {
        let mut snapshot = cluster(1);
        deploy(&mut snapshot, 1, 2, with_volume("a", "data", false));
        deploy(&mut snapshot, 2, 2, with_volume("a", "all", true));
        settle(&mut snapshot, NOW);
        assert_eq!(
            shown(&snapshot),
            [
                "default/all Awaited on n1 by d2.0 d2.1",
                "default/data.0 Awaited on n1 by d1.0",
                "default/data.1 Awaited on n1 by d1.1",
            ]
        );
        node_mut(&mut snapshot, 1).facts.volumes = [name("data.0")].into();
        deploy(&mut snapshot, 1, 1, with_volume("a", "data", false));
        snapshot.volumes.get_mut(&name("all")).unwrap().removing = true;
        settle(&mut snapshot, NOW);
        assert_eq!(
            shown(&snapshot),
            [
                "default/all Removing on n1 by d2.0 d2.1",
                "default/data.0 Present on n1 by d1.0",
                "default/data.1 Awaited on n1 by ",
            ]
        );
        node_mut(&mut snapshot, 1).lost = true;
        node_mut(&mut snapshot, 1).last_beat = None;
        assert_eq!(shown(&snapshot)[1], "default/data.0 Lost on n1 by d1.0");
    }

    #[test]
    fn a_name_means_every_slots_volume_or_one() {
        let mut snapshot = cluster(1);
        deploy(&mut snapshot, 1, 2, with_volume("a", "data", false));
        settle(&mut snapshot, NOW);
        let project = ProjectName::default();
        assert_eq!(super::named(&snapshot, &project, "data"), [name("data.0"), name("data.1")]);
        assert_eq!(super::named(&snapshot, &project, "data.1"), [name("data.1")]);
        for nothing in ["data.2", "dat", "", "a/b", "data.x"] {
            assert_eq!(super::named(&snapshot, &project, nothing), [], "{nothing}");
        }
    }

    #[test]
    fn a_volume_that_another_deployment_uses_is_not_a_deployments_own() {
        let mut snapshot = cluster(1);
        deploy(&mut snapshot, 1, 1, with_volume("a", "mine", false));
        settle(&mut snapshot, NOW);
        assert_eq!(only_of(&snapshot, &deployment_id(1)), [name("mine.0")].into());
        deploy(&mut snapshot, 2, 1, with_volume("a", "mine", false));
        assert_eq!(only_of(&snapshot, &deployment_id(1)), BTreeSet::new());
    }

    #[test]
    fn a_volume_is_gone_when_its_node_has_heard_of_it_and_has_it_no_more() {
        let mut snapshot = cluster(1);
        deploy(&mut snapshot, 1, 1, with_volume("a", "data", false));
        settle(&mut snapshot, NOW);
        assert_eq!(gone(&snapshot), []);
        snapshot.volumes.get_mut(&name("data.0")).unwrap().removing = true;
        assert_eq!(gone(&snapshot), [], "its node works on an older assignment");
        let node = node_mut(&mut snapshot, 1);
        node.applied = node.generation;
        node.facts.volumes = [name("data.0")].into();
        assert_eq!(gone(&snapshot), [], "it is still there");
        node_mut(&mut snapshot, 1).facts.volumes.clear();
        assert_eq!(gone(&snapshot), [name("data.0")]);
        snapshot.nodes.clear();
        assert_eq!(gone(&snapshot), [name("data.0")], "with its node");
    }
}
