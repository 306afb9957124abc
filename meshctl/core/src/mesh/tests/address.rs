//! One mesh address, and more than one that wants it.

use super::*;

#[test]
fn the_larger_key_yields_a_contested_address() {
    // Two hosts in a /30: every address is one of two.
    let (subnet, mut numbers) = ("10.9.8.4/30", (1..250_u8).collect::<Vec<_>>());
    numbers.retain(|number| Node::new(*number, Some(subnet)).mesh.mesh_ip().octets()[3] == 5);
    let mut nodes: Vec<Node> =
        numbers[..2].iter().map(|number| Node::new(*number, Some(subnet))).collect();
    nodes.sort_by_key(Node::key);
    let contested = nodes[0].mesh.mesh_ip();
    assert_eq!(contested, nodes[1].mesh.mesh_ip());
    settle(&mut nodes, START, true);
    assert_eq!(nodes[0].mesh.mesh_ip(), contested);
    assert_eq!(nodes[1].mesh.mesh_ip(), Ipv4Addr::new(10, 9, 8, 6));
    settle(&mut nodes, later(200), true);
    assert_eq!(
        nodes[0].mesh.peer(&nodes[1].key()).unwrap().mesh_ip,
        Some("10.9.8.6".parse().unwrap())
    );
    assert_eq!((nodes[0].configured().len(), nodes[1].configured().len()), (1, 1));
}

#[test]
fn the_smaller_key_yields_to_one_that_never_moves() {
    let (mut one, mut other) = (Node::new(1, None), Node::new(2, None));
    if other.key() < one.key() {
        std::mem::swap(&mut one, &mut other);
    }
    other.mesh.ip = one.mesh.mesh_ip();
    let contested = one.mesh.mesh_ip();
    for ms in (0..40_000).step_by(5_000) {
        let datagram = other.announce(later(ms));
        one.hear(Path::Lan, other.control(), &datagram, later(ms));
        assert_eq!(one.mesh.mesh_ip() == contested, ms < 30_000, "after {ms} ms");
    }
}

#[test]
fn one_address_is_routed_to_one_peer_and_the_live_one_keeps_it() {
    let mut nodes = [Node::new(1, None), Node::new(2, None), Node::new(3, None)];
    nodes[2].mesh.ip = nodes[1].mesh.mesh_ip();
    let contested = nodes[1].mesh.mesh_ip();
    let [one, two, three] = &mut nodes;
    for first_is_live in [true, false] {
        for node in [&mut *two, &mut *three] {
            let datagram = node.announce(later(1));
            one.hear(Path::Lan, node.control(), &datagram, later(1));
        }
        let owners: Vec<_> =
            one.mesh.configured.values().filter(|peer| peer.mesh_ip == contested).collect();
        assert_eq!(owners.len(), 1, "{owners:?}");
        if first_is_live {
            let loser = if owners[0].key == two.key() { &*three } else { &*two };
            assert_eq!(owners[0].key, two.key(), "who came first keeps it");
            let live = [DevicePeer { key: loser.key(), ..device_peer(loser, Some(5)) }];
            one.mesh.handle(Event::Device(&live), later(2));
            assert!(one.mesh.configured.contains_key(&loser.key()), "the live one has it now");
        }
    }
}
