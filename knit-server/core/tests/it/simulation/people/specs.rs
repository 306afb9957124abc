//! Manifests of all kinds.

use std::collections::BTreeMap;

use knit_rpc::id::DeploymentName;
use knit_rpc::spec::{
    Bytes, DeploymentSpec, Health, HostIp, InstanceSpec, Mode, OnFailure, OnNodeLoss, Order,
    PortSpec, Probe, ProbeKind, Protocol, Span, SpreadKey, Strategy, UpdateSpec, VolumeMount, Wave,
};
use knit_server_core::validate::validate;

use crate::simulation::image::Kind;
use crate::simulation::rng::Rng;
use crate::simulation::world::World;

/// A manifest; none when chance made one that the server refuses.
pub(super) fn any(
    world: &mut World,
    name: &str,
    image: &str,
    kind: Kind,
) -> Option<DeploymentSpec> {
    let rng = &mut world.rng;
    let name = DeploymentName::parse(name).ok()?;
    let mut spec = DeploymentSpec::new(name, instance(rng, image));
    spec.replicas = u32::try_from(rng.between(1, 4)).ok()?;
    if rng.chance(10) {
        spec.mode = Mode::EveryNode;
    }
    if rng.chance(15) {
        let zone = if rng.chance(50) { "a" } else { "b" };
        spec.node_selector = BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
    }
    if rng.chance(10) {
        spec.spread = vec![SpreadKey::Label("zone".to_owned())];
    }
    if rng.chance(10) {
        spec.max_per_node = u32::try_from(rng.between(1, 2)).ok();
    }
    if rng.chance(15) {
        let losses = [OnNodeLoss::Replace, OnNodeLoss::Wait, OnNodeLoss::Manual];
        spec.on_node_loss = rng.pick(&losses).copied();
    }
    spec.update = update(rng)?;
    spec.health = health(rng.chance(50));
    made_ready(spec, kind)
}

/// The same manifest with another image.
pub(super) fn with_image(
    known: &DeploymentSpec,
    image: &str,
    kind: Kind,
) -> Option<DeploymentSpec> {
    let mut spec = known.clone();
    image.clone_into(&mut spec.instance.image);
    made_ready(spec, kind)
}

/// What is never ready is known for it by its probe only.
fn made_ready(mut spec: DeploymentSpec, kind: Kind) -> Option<DeploymentSpec> {
    if kind == Kind::NeverReady {
        spec.health = health(true);
    }
    Some(validate(spec).ok()?.into_inner())
}

fn instance(rng: &mut Rng, image: &str) -> InstanceSpec {
    let mut instance = InstanceSpec { image: image.to_owned(), ..InstanceSpec::default() };
    if rng.chance(40) {
        instance.ports = vec![PortSpec {
            container_port: 80,
            host_port: u16::try_from(rng.between(8001, 8003)).unwrap_or(8001),
            protocol: Protocol::Tcp,
            host_ip: HostIp::Mesh,
        }];
    }
    if rng.chance(15) {
        instance.volumes = vec![VolumeMount {
            name: "data".to_owned(),
            path: "/data".to_owned(),
            read_only: rng.chance(20),
            shared: rng.chance(20),
        }];
    }
    if rng.chance(30) {
        instance.resources.memory = Some(Bytes(rng.between(1, 3) << 29));
    }
    instance
}

fn update(rng: &mut Rng) -> Option<UpdateSpec> {
    let strategies = [
        Strategy::Rolling,
        Strategy::Rolling,
        Strategy::Rolling,
        Strategy::Recreate,
        Strategy::Canary,
        Strategy::BlueGreen,
    ];
    let orders = [Order::Auto, Order::Auto, Order::StartFirst, Order::StopFirst];
    let waves = [Wave::Slots(1), Wave::Percent(50), Wave::Percent(100)];
    Some(UpdateSpec {
        strategy: *rng.pick(&strategies)?,
        wave: *rng.pick(&waves)?,
        order: *rng.pick(&orders)?,
        bake: Span::from_secs(rng.below(4)),
        deadline: Span::from_secs(rng.between(20, 40)),
        drain: Span::from_secs(rng.below(3)),
        on_failure: if rng.chance(80) { OnFailure::Rollback } else { OnFailure::Pause },
    })
}

fn health(probed: bool) -> Health {
    let ready = probed.then(|| Probe {
        kind: ProbeKind::Tcp { port: 80 },
        interval: Span::from_secs(1),
        timeout: Span::from_secs(1),
        failures: 3,
    });
    Health { ready, alive: None, start_within: Span::from_secs(8) }
}
