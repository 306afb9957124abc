//! Two nodes whose keys give one mesh address: routine at a few hundred nodes.

use std::fs;

use meshctl_core::derive::MeshSubnet;
use meshctl_core::key::PrivateKey;
use meshctl_core::secret::Secret;
use meshctl_core::state_file::Identity;

use crate::support::{Lan, eventually};

const SUBNET: &str = "10.77.5.0/28";

#[tokio::test(flavor = "multi_thread")]
async fn the_larger_key_moves_is_seen_to_move_and_stays_moved() {
    let lan = Lan::new(2);
    let secret = Secret::parse(&fs::read_to_string(lan.secret_file()).unwrap()).unwrap();
    let (winner, loser) = colliding_keys(&secret);
    keep(&lan, 1, &winner);
    keep(&lan, 2, &loser);

    let flags = ["--mesh-subnet", SUBNET];
    let two = lan.join(2, &flags);
    let contested = two.mesh_ip().await;
    let mut watch = two.client.watch().await.unwrap();
    assert_eq!(watch.next().await.unwrap().mesh_ip, contested, "the watch begins with the present");

    let one = lan.join(1, &flags);
    let moved = loop {
        let mesh_ip = watch.next().await.unwrap().mesh_ip;
        if mesh_ip != contested {
            break mesh_ip;
        }
    };
    assert_eq!(one.mesh_ip().await, contested, "the smaller key keeps the address");
    eventually("a ping to the moved address", || lan.pings(1, &moved).then_some(()));
    eventually("a ping to the kept address", || lan.pings(2, &contested).then_some(()));
    let addresses = lan.mesh_interface(2);
    assert!(
        addresses.contains(&moved) && !addresses.contains(&format!("{contested}/")),
        "{addresses}"
    );

    let kept = Identity::parse(&fs::read(lan.state_dir(2).join("wg0.json")).unwrap()).unwrap();
    assert_eq!(kept.mesh_ip.unwrap().to_string(), moved);
    two.kill();
    let two = lan.join(2, &flags);
    assert_eq!(two.mesh_ip().await, moved, "also after a restart");
}

/// The first two keys with one address; the smaller text first.
fn colliding_keys(secret: &Secret) -> (PrivateKey, PrivateKey) {
    let subnet = MeshSubnet::custom(SUBNET.parse().unwrap()).unwrap();
    let mut seen = std::collections::BTreeMap::new();
    for number in 1..=u8::MAX {
        let key = PrivateKey::from_random([number; 32]);
        let address = subnet.address(&key.public(), secret, 0);
        if let Some(other) = seen.insert(address, key.clone()) {
            let keys = (other, key);
            return if keys.0.public() < keys.1.public() { keys } else { (keys.1, keys.0) };
        }
    }
    unreachable!("255 keys do not fit 14 addresses")
}

fn keep(lan: &Lan, host: u8, key: &PrivateKey) {
    let identity = Identity { private_key: key.clone(), mesh_ip: None, mesh_ipv6: None };
    fs::create_dir(lan.state_dir(host)).unwrap();
    fs::write(lan.state_dir(host).join("wg0.json"), identity.render()).unwrap();
}
