//! Members and outsiders that mean harm: what they say must not cost others their tunnels.

use serde_json::{Value, json};

use super::*;

const ATTACKER: &str = "192.0.2.66:4444";

fn attacker() -> SocketAddr {
    ATTACKER.parse().unwrap()
}

/// A datagram of a member that writes what it likes.
fn forged(node: &mut Node, kind: Kind, mut body: Value, now: Now) -> Vec<u8> {
    body["protocol"] = "wgmesh-v1".into();
    if body.get("timestamp").is_none() {
        body["timestamp"] = now.unix.into();
    }
    node.seal(kind, &serde_json::to_vec(&body).unwrap())
}

fn relabel(datagram: &[u8], kind: &str) -> Vec<u8> {
    let mut envelope: Value = serde_json::from_slice(datagram).unwrap();
    envelope["type"] = kind.into();
    serde_json::to_vec(&envelope).unwrap()
}

fn pair() -> [Node; 2] {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    settle(&mut nodes, START, true);
    nodes
}

fn is_quiet(effects: &[Effect]) -> bool {
    effects.iter().all(|effect| {
        matches!(effect, Effect::Announce(_) | Effect::Probe { .. } | Effect::Routes(_))
    })
}

#[test]
fn an_overheard_message_counts_neither_relabelled_nor_on_another_path() {
    // The third node has heard nothing yet: its memory of nonces does not help it.
    let [_, mut two] = pair();
    let Effect::Send { plaintext, .. } = two.mesh.hello(attacker(), START) else { panic!() };
    let messages = [two.announce(START), two.seal(Kind::Hello, &plaintext)];
    for (index, message) in messages.iter().enumerate() {
        for (path, label) in [
            (Path::Exchange, "HELLO"),
            (Path::Exchange, "REPLY"),
            (Path::Exchange, "ANNOUNCE"),
            (Path::Exchange, "GOODBYE"),
            (Path::Exchange, "RENDEZVOUS_START"),
            (Path::Exchange, ""),
            (Path::Lan, "ANNOUNCE"),
        ] {
            let honest = (index, path, label) == (0, Path::Lan, "ANNOUNCE")
                || (index, path, label) == (1, Path::Exchange, "HELLO");
            let mut three = Node::new(3, None);
            let effects = three.hear(path, attacker(), &relabel(message, label), START);
            assert_eq!(is_quiet(&effects), !honest, "{index} {path:?} {label}: {effects:?}");
            assert_eq!(three.names(START).is_empty(), !honest, "{index} {path:?} {label}");
        }
    }
}

#[test]
fn a_goodbye_under_another_label_says_nothing() {
    let [mut one, mut two] = pair();
    let goodbye = serde_json::to_vec(&crate::message::Goodbye::new(two.key(), START.unix)).unwrap();
    for (path, label) in
        [(Path::Lan, "ANNOUNCE"), (Path::Exchange, "HELLO"), (Path::Exchange, "REPLY")]
    {
        let datagram = relabel(&two.seal(Kind::Goodbye, &goodbye), label);
        let effects = one.hear(path, two.control(), &datagram, later(100));
        assert!(is_quiet(&effects), "{label}: {effects:?}");
    }
    one.mesh.handle(Event::Tick, later(10_000));
    assert_eq!(one.names(later(10_000)), ["node-2"]);
}

#[test]
fn a_goodbye_is_asked_about_more_than_once() {
    let [mut one, mut two] = pair();
    let goodbye = serde_json::to_vec(&crate::message::Goodbye::new(two.key(), START.unix)).unwrap();
    let datagram = two.seal(Kind::Goodbye, &goodbye);
    let mut effects = one.hear(Path::Exchange, two.control(), &datagram, later(100));
    for ms in (200..3_000).step_by(100) {
        effects.extend(one.mesh.handle(Event::Tick, later(ms)));
    }
    let asks = effects.iter().filter(|e| matches!(e, Effect::Send { kind: Kind::Hello, .. }));
    assert_eq!(asks.count(), 4);
    assert!(one.mesh.peer(&two.key()).is_none(), "it did not answer");
}

#[test]
fn a_mention_brings_nobody_back_and_rewrites_nobody() {
    let [mut one, mut two] = pair();
    let (mut three, ghost) = (Node::new(3, None), Node::new(9, None));
    let known = |key: PublicKey, endpoint: &str| {
        json!({"wg_pubkey": key.to_string(), "hostname": "liar", "mesh_ip": "10.0.0.1",
               "wg_endpoint": endpoint, "introducer": true})
    };
    let before = one.mesh.peer(&two.key()).unwrap();
    let body = json!({"wg_pubkey": three.key().to_string(), "mesh_ip": three.mesh.mesh_ip().to_string(),
        "wg_endpoint": "0.0.0.0:51820", "known_peers": [
            known(two.key(), "198.51.100.1:1"), known(ghost.key(), "198.51.100.2:2"),
            known(one.key(), "198.51.100.3:3"),
            {"wg_pubkey": "test-pubkey", "mesh_ip": "10.0.0.1", "wg_endpoint": "198.51.100.4:4"}]});
    let datagram = forged(&mut three, Kind::Hello, body, later(10));
    let effects = one.hear(Path::Exchange, three.control(), &datagram, later(10));
    assert_eq!(one.mesh.peer(&two.key()).unwrap(), before);
    assert!(one.mesh.peer(&ghost.key()).is_none());
    assert_eq!(one.configured().len(), 2, "{:?}", one.configured());
    let mut greeted = Vec::new();
    for effect in effects {
        if let Effect::Send { to, kind: Kind::Hello, .. } = effect {
            greeted.push(to);
        }
    }
    greeted.sort();
    let port = one.mesh.settings.keys.gossip_port;
    assert_eq!(greeted, [SocketAddr::from(([198, 51, 100, 2], port))], "only the unknown is asked");

    // The third leaves; the mention of the second, which still knows it, brings nothing but a HELLO.
    let goodbye =
        serde_json::to_vec(&crate::message::Goodbye::new(three.key(), START.unix)).unwrap();
    let datagram = three.seal(Kind::Goodbye, &goodbye);
    one.hear(Path::Exchange, three.control(), &datagram, later(1_000));
    one.mesh.handle(Event::Tick, later(3_100));
    let body = json!({"wg_pubkey": two.key().to_string(), "mesh_ip": two.mesh.mesh_ip().to_string(),
        "wg_endpoint": "0.0.0.0:51820", "known_peers": [known(three.key(), "192.0.2.3:51820")]});
    let datagram = forged(&mut two, Kind::Hello, body, later(3_200));
    one.hear(Path::Exchange, two.control(), &datagram, later(3_200));
    assert_eq!(one.names(later(3_200)), ["node-2"]);
    assert_eq!(one.configured().len(), 1);
}

#[test]
fn a_contested_address_goes_back_to_its_first_owner() {
    let [mut one, two] = pair();
    let stolen = two.mesh.mesh_ip();
    for number in 3..30 {
        let mut thief = Node::new(number, None);
        thief.mesh.ip = stolen;
        let datagram = thief.announce(later(u64::from(number)));
        one.hear(Path::Lan, thief.control(), &datagram, later(u64::from(number)));
    }
    let owner = |one: &Node| {
        one.mesh.configured.values().find(|peer| peer.mesh_ip == stolen).map(|peer| peer.key)
    };
    assert_eq!(owner(&one), Some(two.key()), "nobody takes it from who came first");

    // Even if a thief had it, the owner has it again once its tunnel is the live one.
    let live = [device_peer(&two, Some(10))];
    one.mesh.handle(Event::Device(&live), later(1_000));
    assert_eq!(owner(&one), Some(two.key()));
}

#[test]
fn foreign_endpoints_and_addresses_are_not_taken() {
    for endpoint in [
        "127.0.0.1:51820",
        "[::1]:51820",
        "[::ffff:127.0.0.1]:51820",
        "224.0.0.1:51820",
        "[ff02::1]:51820",
        "255.255.255.255:51820",
    ] {
        let (mut one, mut two) = (Node::new(1, None), Node::new(2, None));
        let body = json!({"wg_pubkey": two.key().to_string(), "wg_endpoint": endpoint,
                          "mesh_ip": two.mesh.mesh_ip().to_string()});
        let datagram = forged(&mut two, Kind::Hello, body, START);
        one.hear(Path::Exchange, two.control(), &datagram, START);
        assert_eq!(one.configured(), [(two.key(), None)], "{endpoint}");
    }
    let subnet = Node::new(1, None).mesh.settings.subnet.net();
    let in_mesh = format!("{}:51820", subnet.hosts().nth(7).unwrap());
    let own = Node::new(1, None).mesh.mesh_ip().to_string();
    for (mesh_ip, endpoint, configured) in [
        (subnet.network().to_string(), "192.0.2.2:1", 0),
        (subnet.broadcast().to_string(), "192.0.2.2:1", 0),
        ("8.8.8.8".to_owned(), "192.0.2.2:1", 0),
        ("0.0.0.0".to_owned(), "192.0.2.2:1", 0),
        ("::".to_owned(), "192.0.2.2:1", 0),
        ("10.1.2.3/8".to_owned(), "192.0.2.2:1", 0),
        (own, "192.0.2.2:1", 0),
        (subnet.hosts().nth(9).unwrap().to_string(), in_mesh.as_str(), 1),
    ] {
        let (mut one, mut two) = (Node::new(1, None), Node::new(2, None));
        let body = json!({"wg_pubkey": two.key().to_string(), "wg_endpoint": endpoint,
                          "mesh_ip": mesh_ip});
        let datagram = forged(&mut two, Kind::Hello, body, START);
        one.hear(Path::Exchange, two.control(), &datagram, START);
        let found = one.configured();
        assert_eq!(found.len(), configured, "{mesh_ip}: {found:?}");
        assert!(found.iter().all(|(_, endpoint)| endpoint.is_none()), "{found:?}");
    }
}

#[test]
fn a_member_cannot_silence_another_by_a_message_from_the_future() {
    let [mut one, mut two] = pair();
    let live = [device_peer(&two, Some(100))];
    one.mesh.handle(Event::Device(&live), later(100));
    let body = json!({"wg_pubkey": two.key().to_string(), "hostname": "forged",
        "mesh_ip": two.mesh.mesh_ip().to_string(), "timestamp": START.unix + 590});
    let datagram = forged(&mut Node::new(3, None), Kind::Hello, body, later(200));
    one.hear(Path::Exchange, attacker(), &datagram, later(200));
    assert_eq!(one.names(later(200)), ["forged"], "a member can lie of others");
    assert_eq!(one.configured()[0].1, Some("192.0.2.2:51820".parse().unwrap()), "not move them");
    let datagram = two.announce(later(5_000));
    one.hear(Path::Lan, two.control(), &datagram, later(5_000));
    assert_eq!(one.names(later(5_000)), ["node-2"], "and its own word counts again");
}

#[test]
fn a_full_table_loses_the_unproven_and_never_the_live() {
    let [mut one, two] = pair();
    let live = [device_peer(&two, Some(100))];
    one.mesh.handle(Event::Device(&live), later(100));
    let now = later(200);
    for number in 0..1_200_u32 {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        assert!(one.mesh.peers.meet(PublicKey::from_bytes(bytes), now).is_some());
    }
    assert_eq!(one.mesh.peers_total(), 1_000);
    assert!(one.mesh.peer(&two.key()).is_some());
    let mut late = Node::new(4, None);
    let datagram = late.announce(now);
    one.hear(Path::Lan, late.control(), &datagram, now);
    assert!(one.configured().iter().any(|(key, _)| *key == late.key()), "a real node has room");
}

#[test]
fn a_withdrawn_route_is_gone_and_kept_so() {
    let [mut one, mut two] = pair();
    two.mesh.settings.routes = vec!["10.99.2.0/24".parse().unwrap()];
    let datagram = two.announce(later(5_000));
    let effects = one.hear(Path::Lan, two.control(), &datagram, later(5_000));
    assert!(effects.contains(&Effect::PeersChanged), "{effects:?}");
    assert_eq!(one.mesh.peer(&two.key()).unwrap().routes.len(), 1);
    two.mesh.settings.routes.clear();
    let datagram = two.announce(later(10_000));
    let effects = one.hear(Path::Lan, two.control(), &datagram, later(10_000));
    assert!(effects.contains(&Effect::PeersChanged), "{effects:?}");
    assert!(one.mesh.peer(&two.key()).unwrap().routes.is_empty());
}

#[test]
fn only_an_answer_tells_us_our_address() {
    let [mut one, mut two] = pair();
    let reply = |two: &mut Node, now: Now| {
        let body = json!({"wg_pubkey": two.key().to_string(), "mesh_ip": two.mesh.mesh_ip().to_string(),
                          "observed_endpoint": "203.0.113.5:1"});
        forged(two, Kind::Reply, body, now)
    };
    let datagram = reply(&mut two, later(60_000));
    one.hear(Path::Exchange, attacker(), &datagram, later(60_000));
    let seen_by_two = Some("192.0.2.1".parse().unwrap());
    assert_eq!(one.mesh.observed.address(), seen_by_two, "nobody asked the other");
    one.mesh.hello(two.control(), later(61_000));
    let datagram = reply(&mut two, later(61_500));
    one.hear(Path::Exchange, two.control(), &datagram, later(61_500));
    assert_eq!(one.mesh.observed.address(), Some("203.0.113.5".parse().unwrap()));
}

#[test]
fn floods_and_junk_are_dropped_without_a_word() {
    let [mut one, two] = pair();
    let huge = vec![b'['; 65_507];
    let deep = format!(r#"{{"type":"HELLO","nonce":{}"#, "[".repeat(40_000));
    for junk in [b"".as_slice(), b"{}", b"null", huge.as_slice(), deep.as_bytes(), &[0xff; 1_200]] {
        for path in [Path::Lan, Path::Exchange] {
            assert!(
                is_quiet(&one.hear(path, attacker(), junk, later(100))),
                "{} bytes",
                junk.len()
            );
        }
    }
    // One source may have twenty at once; another is still heard.
    let mut member = Node::new(3, None);
    let mut answered = 0;
    for _ in 0..200 {
        let Effect::Send { plaintext, .. } = member.mesh.hello(one.control(), later(10_000)) else {
            panic!()
        };
        let datagram = member.seal(Kind::Hello, &plaintext);
        let effects = one.hear(Path::Exchange, member.control(), &datagram, later(10_000));
        answered +=
            effects.iter().filter(|e| matches!(e, Effect::Send { kind: Kind::Reply, .. })).count();
    }
    assert_eq!(answered, 20);
    let mut two = two;
    let Effect::Send { plaintext, .. } = two.mesh.hello(one.control(), later(10_000)) else {
        panic!()
    };
    let datagram = two.seal(Kind::Hello, &plaintext);
    assert!(!is_quiet(&one.hear(Path::Exchange, two.control(), &datagram, later(10_000))));
}

#[test]
fn a_wrong_clock_is_told_once_a_minute() {
    let [mut one, mut two] = pair();
    let off = Now { unix: START.unix + 4_000, ..START };
    let reports = |effects: &[Effect]| {
        effects.iter().filter(|e| matches!(e, Effect::Report(Report::Clock { .. }))).count()
    };
    let mut told = 0;
    for second in 0..90 {
        let datagram = two.announce(off);
        told += reports(&one.hear(Path::Lan, two.control(), &datagram, later(second * 1_000)));
    }
    assert_eq!(told, 2);
}

#[test]
fn routes_are_used_only_where_the_user_accepts_them_and_given_back_when_a_peer_is_gone() {
    let mut one = Node::new(1, None);
    one.mesh.routes = Routes::new(&["10.99.0.0/16".parse().unwrap()]);
    let mut two = Node::new(2, None);
    two.mesh.settings.routes = vec!["0.0.0.0/0".parse().unwrap(), "10.99.2.0/24".parse().unwrap()];
    let datagram = two.announce(START);
    let effects = one.hear(Path::Lan, two.control(), &datagram, START);
    let routes = |e: &Effect| matches!(e, Effect::Routes(_));
    assert!(!effects.iter().any(routes), "an earlier run's stay for now: {effects:?}");
    let local = Event::LocalNetworks(vec!["192.0.2.0/24".parse().unwrap()]);
    let effects = one.mesh.handle(local, later(10));
    let route: Ipv4Net = "10.99.2.0/24".parse().unwrap();
    assert!(effects.contains(&Effect::Routes(vec![route])), "{effects:?}");
    let Some(Effect::SetPeer(config)) = effects.iter().find(|e| matches!(e, Effect::SetPeer(_)))
    else {
        panic!("{effects:?}")
    };
    let allowed: Vec<String> = config.allowed_ips.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["10.99.2.0/24".to_owned(), format!("{}/32", two.mesh.mesh_ip())]);

    // What stands on the device as wanted is left alone; what is missing is put back.
    let seen = |routes: &[&str]| {
        let mut seen = device_peer(&two, Some(10));
        seen.allowed_ips.extend(routes.iter().map(|net| net.parse::<ipnet::IpNet>().unwrap()));
        seen
    };
    let sets = |effects: &[Effect]| effects.iter().any(|e| matches!(e, Effect::SetPeer(_)));
    let whole = [seen(&["10.99.2.0/24"])];
    assert!(!sets(&one.mesh.handle(Event::Device(&whole), later(20))));
    assert!(sets(&one.mesh.handle(Event::Device(&[seen(&[])]), later(30))));
    assert!(sets(&one.mesh.handle(Event::Device(&[seen(&["0.0.0.0/0"])]), later(40))));

    let effects = one.mesh.handle(Event::Tick, later(700_000));
    assert!(effects.contains(&Effect::Routes(Vec::new())), "{effects:?}");
}

#[test]
fn a_flood_of_starts_aims_us_at_nobody_and_short_keys_do_no_harm() {
    let [mut one, mut two] = pair();
    let candidates: Vec<String> = (0..100).map(|host| format!("198.51.100.{host}:53")).collect();
    for ms in 0..100 {
        let now = later(1_000 + ms * 100);
        let start = json!({"pair_id": "83c7f84e91dc6640", "peer_pubkey": two.key().to_string(),
            "peer_candidates": candidates, "start_at_unix_ms": now.unix * 1_000});
        let datagram = relabel(&forged(&mut two, Kind::Hello, start, now), "RENDEZVOUS_START");
        let effects = one.hear(Path::Exchange, two.control(), &datagram, now);
        assert!(is_quiet(&effects), "{effects:?}");
    }
    one.mesh.hello(attacker(), later(12_000));
    for key in ["", "a", "1234567"] {
        let body =
            json!({"wg_pubkey": key, "mesh_ip": "10.0.0.1", "observed_endpoint": "203.0.113.5:1"});
        let datagram = forged(&mut two, Kind::Reply, body, later(12_000));
        assert!(is_quiet(&one.hear(Path::Exchange, attacker(), &datagram, later(12_000))));
    }
    assert_eq!(one.mesh.peers_total(), 1);
}

#[test]
fn what_an_earlier_run_heard_moves_nobody_after_a_restart() {
    let mut two = Node::new(2, None);
    let cached = CachedPeer {
        wg_pubkey: two.key(),
        hostname: "node-2".into(),
        mesh_ip: IpAddr::V4(two.mesh.mesh_ip()),
        mesh_ipv6: None,
        endpoint: Some("192.0.2.2:51820".parse().unwrap()),
        routable_networks: Vec::new(),
        last_seen: START.unix - 20,
        certificate: None,
    };
    let overheard = two.announce(Now { unix: START.unix - 60, ..START });
    let mut one = Node::with_cache(1, None, &[cached]);
    one.mesh.handle(Event::Device(&[]), START);
    one.hear(Path::Lan, attacker(), &overheard, later(100));
    assert_eq!(one.configured()[0].1, Some("192.0.2.2:51820".parse().unwrap()));
    let fresh = two.announce(later(200));
    one.hear(Path::Lan, "192.0.2.77:4000".parse().unwrap(), &fresh, later(200));
    assert_eq!(one.configured()[0].1, Some("192.0.2.77:51820".parse().unwrap()), "it has moved");

    let mut fresh_start = Node::new(3, None);
    fresh_start.hear(Path::Lan, attacker(), &overheard, later(300));
    assert_eq!(fresh_start.names(later(300)), ["node-2"], "a clock that is behind is no replay");
}
