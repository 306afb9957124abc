//! What people want: deployments of all kinds, and what they do to them.

mod specs;

use knit_rpc::api::{Availability, Cause};
use knit_rpc::id::{DeploymentId, DeploymentName, NodeId, ProjectName};
use knit_rpc::spec::{DeploymentSpec, Mode};
use knit_server_core::{Deployment, revise};

use super::image::{KINDS, Kind};
use super::world::World;

/// Names that people use.
const NAMES: u64 = 4;

#[derive(Debug, Default)]
pub(super) struct People {
    /// Deployments and images made so far.
    made: u32,
}

impl People {
    /// Somebody does something.
    pub(super) fn act(&mut self, world: &mut World) {
        if !world.server.up {
            return;
        }
        let name = format!("d{}", world.rng.below(NAMES));
        let known = named(world, &name);
        match (world.rng.below(100), known) {
            (0..10, _) => patch_node(world),
            (_, None) => self.deploy_first(world, &name),
            (10..60, Some(known)) => self.deploy_next(world, &known),
            (60..70, Some(known)) if known.spec.mode == Mode::Replicated => {
                let replicas = u32::try_from(world.rng.below(5)).unwrap_or(1);
                if replicas != known.spec.replicas {
                    let after = revise::scale(&known, replicas, world.now);
                    take(world, "scale", after);
                }
            }
            (choice, Some(known)) => change(world, choice, &known),
        }
    }

    fn deploy_first(&mut self, world: &mut World, name: &str) {
        self.made += 1;
        let number = self.made.to_be_bytes();
        let mut bytes = [7; 16];
        bytes[..4].copy_from_slice(&number);
        let kind = any_kind(world);
        let Some(spec) = specs::any(world, name, &self.image(kind), kind) else { return };
        let after = revise::first(DeploymentId::from_bytes(bytes), spec, world.now);
        take(world, "deploy", after);
    }

    fn deploy_next(&mut self, world: &mut World, known: &Deployment) {
        let kind = any_kind(world);
        let image = self.image(kind);
        let changes_all = world.rng.chance(40);
        let name = known.spec.name.as_str();
        let spec = if changes_all {
            specs::any(world, name, &image, kind)
        } else {
            specs::with_image(&known.spec, &image, kind)
        };
        if let Some(spec) = spec.filter(|spec| *spec != known.spec) {
            take(world, "deploy", revise::next(known, spec, Cause::Deploy, world.now));
        }
    }

    /// The same deployment with another image of this kind.
    pub(super) fn deploy_image(
        &mut self,
        world: &mut World,
        known: &Deployment,
        kind: Kind,
    ) -> Option<DeploymentSpec> {
        let spec = specs::with_image(&known.spec, &self.image(kind), kind)?;
        take(world, "deploy", revise::next(known, spec.clone(), Cause::Deploy, world.now));
        Some(spec)
    }

    fn image(&mut self, kind: Kind) -> String {
        self.made += 1;
        format!("{}:{}", kind.as_str(), self.made)
    }
}

fn any_kind(world: &mut World) -> Kind {
    if world.rng.chance(55) {
        return Kind::Good;
    }
    world.rng.pick(&KINDS).copied().unwrap_or(Kind::Good)
}

fn change(world: &mut World, choice: u64, known: &Deployment) {
    let now = world.now;
    let (what, after) = match choice {
        0..74 => ("restart", Ok(revise::restart(known, now))),
        74..78 if !known.stopped => ("stop", Ok(revise::stop(known, now))),
        78..84 => ("rollback", revise::rollback(known, None, false, now)),
        84..88 => ("pause", revise::pause(known)),
        88..91 => ("abort", revise::abort(known, now)),
        91..94 => ("promote", revise::promote(known, now)),
        74..78 | 94..97 if known.stopped => ("start", Ok(revise::start(known, now))),
        74..78 | 94..97 => ("resume", revise::resume(known, now)),
        _ => ("undeploy", Ok(Deployment { removed_at: Some(now), ..known.clone() })),
    };
    if let Ok(after) = after {
        take(world, what, after);
    }
}

fn take(world: &mut World, what: &str, after: Deployment) {
    let (name, spec) = (&after.spec.name, &after.spec);
    let update = &spec.update;
    let text = format!(
        "people: {what} {name} r{}: {} x{} {} {:?} bake {} {:?} ports {} volumes {} ready {}",
        after.revision,
        spec.instance.image,
        spec.replicas,
        update.strategy.as_str(),
        update.order,
        update.bake,
        update.wave,
        spec.instance.ports.len(),
        spec.instance.volumes.len(),
        spec.health.ready.is_some(),
    );
    world.tell(&text);
    world.server.put(after);
}

/// Somebody drains a node, or labels it otherwise.
fn patch_node(world: &mut World) {
    let ids: Vec<NodeId> = world.server.snapshot.nodes.keys().cloned().collect();
    let Some(id) = world.rng.pick(&ids).cloned() else { return };
    let choice = world.rng.below(6);
    let others = world.server.snapshot.nodes.values().filter(|node| node.id != id);
    let some_work = others.clone().any(|node| node.availability == Availability::Active);
    let Some(node) = world.server.snapshot.nodes.get_mut(&id) else { return };
    match choice {
        0 if some_work => node.availability = Availability::Draining,
        1 if some_work => node.availability = Availability::Cordoned,
        2 => _ = node.label_changes.insert("zone".to_owned(), Some("a".to_owned())),
        3 => _ = node.label_changes.insert("zone".to_owned(), Some("b".to_owned())),
        _ => node.availability = Availability::Active,
    }
    let text =
        format!("people: {} {:?} zone {:?}", node.name(), node.availability, node.label("zone"));
    world.server.mark_all();
    world.tell(&text);
}

/// The deployment that has a name.
pub(super) fn named(world: &World, name: &str) -> Option<Deployment> {
    let name = DeploymentName::parse(name).ok()?;
    world.server.snapshot.named(&ProjectName::default(), &name).cloned()
}
