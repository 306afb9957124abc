//! The mesh's IPv6 addresses: announced when they are there, believed when they are in the mesh.

use super::*;

fn own_ipv6(node: &Node) -> Ipv6Addr {
    let keys = &node.mesh.settings.keys;
    crate::derive::mesh_ipv6(keys.v6_prefix, &node.key(), &keys.secret)
}

fn with_ipv6(number: u8) -> Node {
    let mut node = Node::new(number, None);
    node.mesh.settings.ipv6 = Some(own_ipv6(&node));
    node.mesh.has_ipv6 = true;
    node
}

fn allowed_ips(node: &Node, peer: &Node) -> Vec<IpAddr> {
    let config = node.mesh.configured.get(&peer.key());
    config.map(|peer| peer.allowed_ips.iter().map(IpNet::addr).collect()).unwrap_or_default()
}

#[test]
fn an_address_is_announced_and_routed_only_while_it_is_there() {
    let mut nodes = [with_ipv6(1), with_ipv6(2)];
    settle(&mut nodes, START, true);
    let [one, two] = &mut nodes;
    let both = [IpAddr::V4(two.mesh.mesh_ip()), IpAddr::V6(own_ipv6(two))];
    assert_eq!(allowed_ips(one, two), both);
    assert_eq!(one.mesh.peer(&two.key()).unwrap().mesh_ipv6, Some(own_ipv6(two)));
    let cached = &one.mesh.cached_peers()[0];
    let mut again = Node::with_cache(3, None, std::slice::from_ref(cached));
    again.mesh.handle(Event::Tick, START);
    assert_eq!(allowed_ips(&again, two), both, "kept over a restart");

    two.mesh.handle(Event::Ipv6(false), later(100));
    assert_eq!(two.mesh.mesh_ipv6(), None);
    let datagram = two.announce(later(200));
    one.hear(Path::Lan, two.control(), &datagram, later(200));
    assert_eq!(allowed_ips(one, two), both[..1]);
}

#[test]
fn hearers_are_told_of_it_and_nobody_takes_it_from_its_proven_owner() {
    let mut nodes = [with_ipv6(1), with_ipv6(2), with_ipv6(3)];
    let stolen = own_ipv6(&nodes[1]);
    nodes[2].mesh.settings.ipv6 = Some(stolen);
    settle(&mut nodes[..2], START, true);
    let [one, two, three] = &mut nodes;
    one.mesh.handle(Event::Device(&[device_peer(two, Some(5))]), later(10));
    let datagram = three.announce(later(20));
    one.hear(Path::Lan, three.control(), &datagram, later(20));
    assert!(allowed_ips(one, two).contains(&IpAddr::V6(stolen)));
    assert_eq!(allowed_ips(one, three), [IpAddr::V4(three.mesh.mesh_ip())]);

    let Effect::Send { plaintext, .. } = one.mesh.hello(three.control(), later(30)) else {
        panic!("a HELLO is sent")
    };
    let hello: serde_json::Value = serde_json::from_slice(&plaintext).unwrap();
    let told = hello["known_peers"].as_array().unwrap();
    let of_two = told.iter().find(|peer| peer["wg_pubkey"] == two.key().as_str()).unwrap();
    assert_eq!(of_two["mesh_ipv6"], stolen.to_string());
}

#[test]
fn an_address_outside_the_mesh_is_not_believed() {
    let mut one = with_ipv6(1);
    let mut two = with_ipv6(2);
    let net = one.mesh.settings.keys.v6_net().network();
    for foreign in ["2001:db8::1", "fe80::1", "::1", "fd00::1", &net.to_string()] {
        two.mesh.settings.ipv6 = Some(foreign.parse().unwrap());
        let datagram = two.announce(START);
        one.hear(Path::Lan, two.control(), &datagram, START);
        assert_eq!(allowed_ips(&one, &two), [IpAddr::V4(two.mesh.mesh_ip())], "{foreign}");
    }
}

#[test]
fn without_ipv6_no_endpoint_is_one() {
    let v6: SocketAddr = "[2001:db8::5]:52448".parse().unwrap();
    for no_ipv6 in [false, true] {
        let mut one = Node::new(1, None);
        one.mesh.settings.no_ipv6 = no_ipv6;
        let mut two = Node::new(2, None);
        let Effect::Send { plaintext, .. } = two.mesh.hello(one.control(), START) else {
            panic!("a HELLO is sent")
        };
        let datagram = two.seal(Kind::Hello, &plaintext);
        one.hear(Path::Exchange, v6, &datagram, START);
        let endpoint = one.mesh.peer(&two.key()).unwrap().endpoint;
        assert_eq!(endpoint.is_none(), no_ipv6, "{endpoint:?}");
    }
}
