//! Clusters in the middle of their lives.

use knit_rpc::api::Availability;
use knit_rpc::constraint::Constraint;
use knit_rpc::message::Phase;
use knit_rpc::spec::{DeploymentSpec, Mode, SpreadKey, UpdateSpec, VolumeMount, Wave};
use proptest::prelude::*;

use crate::snapshot::Snapshot;
use crate::testing::*;

/// How a deployment is wanted.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) n: u8,
    replicas: u32,
    image: u8,
    host_port: Option<u16>,
    web: Option<bool>,
    /// Hundreds of MiB that are reserved.
    memory: u64,
    max_per_node: Option<u32>,
    spread: bool,
    volume: bool,
    every_node: bool,
    /// The zone that `where` asks for.
    zone: Option<u8>,
}

pub(super) fn wish(snapshot: &mut Snapshot, wish: &Wish) {
    let mut spec = reserving(&format!("image{}", wish.image), 0, wish.memory * 100);
    spec.ports = wish.host_port.into_iter().map(port).collect();
    if wish.volume {
        let (name, path) = (format!("data{}", wish.n), "/data".to_owned());
        spec.volumes = vec![VolumeMount { name, path, read_only: false, shared: false }];
    }
    let role = |web: bool| ("role".to_owned(), if web { "web" } else { "db" }.to_owned());
    let spread = [SpreadKey::Label("zone".to_owned()), SpreadKey::Node];
    let spec = DeploymentSpec {
        replicas: wish.replicas,
        mode: if wish.every_node { Mode::EveryNode } else { Mode::Replicated },
        node_selector: wish.web.map(role).into_iter().collect(),
        constraint: wish
            .zone
            .map(|zone| Constraint::parse(&format!("label.zone == \"z{zone}\"")).unwrap()),
        spread: if wish.spread { spread.to_vec() } else { Vec::new() },
        max_per_node: wish.max_per_node,
        update: UpdateSpec { wave: Wave::Percent(100), ..UpdateSpec::default() },
        ..named(wish.n, spec)
    };
    deploy_spec(snapshot, wish.n, spec, NOW);
}

pub(super) fn wishes(max: usize) -> impl Strategy<Value = Vec<Wish>> {
    let port = proptest::option::weighted(0.3, 8000..8003u16);
    let role = proptest::option::weighted(0.3, any::<bool>());
    let zone = proptest::option::weighted(0.2, 0..2u8);
    let max_per_node = proptest::option::weighted(0.3, 1..3u32);
    let kinds = (proptest::bool::weighted(0.4), proptest::bool::weighted(0.2));
    let every_node = proptest::bool::weighted(0.15);
    let one = (0..6u8, 0..5u32, 0..3u8, port, role, 0..4u64, max_per_node, kinds, every_node, zone);
    let one = one.prop_map(
        |(n, replicas, image, host_port, web, memory, max_per_node, kinds, every_node, zone)| {
            let (spread, volume) = kinds;
            Wish {
                n,
                replicas,
                image,
                host_port,
                web,
                memory,
                max_per_node,
                spread,
                volume,
                every_node,
                zone,
            }
        },
    );
    proptest::collection::vec(one, 0..max)
}

/// A node: whether it is for the web, its trouble, its zone, and what else is special about it.
type Host = (bool, u8, u8, u8);

fn add(snapshot: &mut Snapshot, n: u8, (web, _, zone, special): Host) {
    let zone = format!("z{zone}");
    add_node(snapshot, n, &[("role", if web { "web" } else { "db" }), ("zone", &zone)]);
    equip(snapshot, n, 4, if special == 0 { 250 } else { 1000 }, 0);
    if special == 1 {
        node_mut(snapshot, n).facts.images.insert("image1".to_owned());
    }
}

fn trouble(snapshot: &mut Snapshot, n: u8, (_, trouble, _, _): Host) {
    let node = node_mut(snapshot, n);
    match trouble {
        0 => node.facts.docker = None,
        1 => node.last_beat = Some(knit_rpc::Timestamp::default()),
        2 => node.availability = Availability::Cordoned,
        3 => node.availability = Availability::Draining,
        _ => {}
    }
}

/// A cluster in the middle of its life: deployed, partly running, deployed again, a node or two
/// in trouble.
pub(super) fn clusters() -> impl Strategy<Value = Snapshot> {
    let phases = proptest::collection::vec(0..4u8, 40);
    let nodes = proptest::collection::vec((any::<bool>(), 0..12u8, 0..2u8, 0..4u8), 1..6);
    (nodes, wishes(6), phases, wishes(3), any::<bool>()).prop_map(
        |(nodes, first, phases, second, remove)| {
            let mut snapshot = cluster(0);
            for (n, host) in (1u8..).zip(&nodes) {
                add(&mut snapshot, n, *host);
            }
            for one in &first {
                wish(&mut snapshot, one);
            }
            settle(&mut snapshot, NOW);
            let instances = snapshot.instances.clone();
            for (instance, phase) in instances.values().zip(phases) {
                let phase = [Phase::Running, Phase::Running, Phase::Failed, Phase::Pulling]
                    [usize::from(phase)];
                report(&mut snapshot, instance, phase);
            }
            for one in &second {
                wish(&mut snapshot, one);
            }
            if remove && let Some(deployment) = snapshot.deployments.values_mut().next() {
                deployment.removed_at = Some(NOW);
            }
            for (n, host) in (1u8..).zip(nodes) {
                trouble(&mut snapshot, n, host);
            }
            snapshot
        },
    )
}
