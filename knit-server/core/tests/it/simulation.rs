//! The server core and the agent core together, in a world of chance that comes from a seed.
//!
//! ```text
//!  Server (knit-server-core) <── Wire: late, twice, out of order, lost ──> Host (knit-agent-core)
//!      │ store: what a restart keeps                                         │ Engine, rules, disk
//!      └───────────────────────── World: one tick is 250 ms ─────────────────┘
//! ```

mod engine;
mod host;
mod image;
mod rng;
mod server;
mod wire;
mod world;

use knit_rpc::id::{DeploymentId, DeploymentName, NodeId};
use knit_rpc::spec::{DeploymentSpec, InstanceSpec};
use knit_server_core::revise;

use image::KINDS;
use wire::Weather;
use world::World;

#[test]
fn what_is_deployed_runs_whatever_the_weather_and_whoever_starts_anew() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        ticks(&mut world, 12);
        let sound: Vec<_> = KINDS.into_iter().filter(|kind| kind.is_sound()).collect();
        let kind = *world.rng.pick(&sound).expect("sound images");
        deploy(&mut world, &format!("{}:1", kind.as_str()));
        world.wire.weather = Weather::FOUL;
        ticks(&mut world, 40);
        world.restart_server();
        let nodes: Vec<NodeId> = world.hosts.keys().cloned().collect();
        let node = world.rng.pick(&nodes).expect("hosts").clone();
        world.reboot(&node);
        ticks(&mut world, 80);
        world.wire.weather = Weather::FAIR;
        ticks(&mut world, 240);
        let up = |world: &World| -> usize {
            world.hosts.values().flat_map(host::Host::ours).filter(|(_, c)| c.state.is_up()).count()
        };
        assert_eq!(up(&world), 4, "seed {seed}: {:?}", world.server.plan);
        let deployments = &world.server.snapshot.deployments;
        assert!(deployments.values().all(|one| one.rollout.is_none()), "seed {seed}");
    }
}

fn deploy(world: &mut World, image: &str) {
    let instance = InstanceSpec { image: image.to_owned(), ..InstanceSpec::default() };
    let name = DeploymentName::parse("web").expect("a name");
    let spec = DeploymentSpec { replicas: 4, ..DeploymentSpec::new(name, instance) };
    let deployment = revise::first(DeploymentId::from_bytes([1; 16]), spec, world.now);
    world.server.put(deployment);
}

fn ticks(world: &mut World, count: u32) {
    for _ in 0..count {
        world.tick();
    }
}
