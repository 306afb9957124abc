//! The actor on a fake device: effects that fail are done again.

use meshctl_core::derive::MeshKeys;
use meshctl_core::key::PrivateKey;
use meshctl_core::mesh::{Path, Settings};
use meshctl_core::secret::Secret;

use super::*;
use crate::sidecar::wg::fake::Fake;

fn settings(number: u8, keys: &MeshKeys) -> (Settings, PrivateKey) {
    let private_key = PrivateKey::from_random([number; 32]);
    let settings = Settings {
        public_key: private_key.public(),
        subnet: keys.default_subnet(),
        hostname: format!("node-{number}"),
        listen_port: 51820,
        boot: 1,
        routes: Vec::new(),
        accept_routes: Vec::new(),
        lan: true,
        gossip: false,
        ipv6: None,
        no_ipv6: false,
        introducer: false,
        no_punching: false,
        force_relay: false,
        trust: meshctl_core::mesh::Trust::default(),
        successor: None,
        relays_ipv6: false,
        keys: keys.clone(),
    };
    (settings, private_key)
}

fn actor(device: Fake, keys: &MeshKeys, dir: &std::path::Path) -> Actor {
    let (settings, private_key) = settings(1, keys);
    let clock = Clock::start();
    let mesh = Mesh::new(settings, None, &[], clock.now());
    Actor {
        address: watch::Sender::new(None),
        address_v6: watch::Sender::new(None),
        ipv6_refused: false,
        forwarding: None,
        clock,
        mesh,
        device: Box::new(device),
        links: Links::connect().unwrap(),
        sockets: Sockets { exchange: Exchange::bind(0).unwrap(), multicast: None },
        state: StateDir::open(dir, "fake0").unwrap(),
        identity: Identity { private_key, mesh_ip: None, mesh_ipv6: None },
        interface: "fake0".to_owned(),
        stop: CancellationToken::new(),
        leave: CancellationToken::new(),
        teardown: false,
        said: String::new(),
        measured: Measured::default(),
        probes: mpsc::channel(1).0,
        asker: Asker::default(),
    }
}

#[tokio::test]
async fn a_peer_that_the_device_refused_is_configured_once_it_can_be() {
    let dir = std::env::temp_dir().join(format!("meshctl-actor-{}", std::process::id()));
    let keys = MeshKeys::derive(&Secret::parse("a secret of the tests only").unwrap());
    let device = Fake::default();
    let mut actor = actor(device.clone(), &keys, &dir);
    let mut dirty = false;

    let mut other = Mesh::new(settings(2, &keys).0, None, &[], actor.clock.now());
    let effects = other.handle(Event::Tick, actor.clock.now());
    let Some(Effect::Announce(plaintext)) = effects.first() else { panic!("{effects:?}") };
    let bytes = seal(&keys.gossip_key, Kind::Announce, plaintext);

    device.fail(true);
    let from = "192.0.2.2:4000".parse().unwrap();
    actor.on(Event::Datagram { path: Path::Lan, from, bytes: &bytes }, &mut dirty).await;
    assert!(dirty, "a new peer is to be kept");
    actor.poll_device(&mut dirty).await;
    assert_eq!(device.keys(), []);

    device.fail(false);
    actor.poll_device(&mut dirty).await;
    assert_eq!(device.keys(), [other.settings().public_key]);

    actor.keep_peers_if(&mut dirty);
    assert_eq!(actor.state.peers().len(), 1);
    std::fs::remove_dir_all(&dir).unwrap();
}
