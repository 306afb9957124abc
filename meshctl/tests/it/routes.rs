//! Networks behind a peer: used where the user says so, and nothing is stolen by them.

use nix::sys::signal::Signal;

use crate::support::{Lan, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_route_leads_through_its_peer_and_no_other_is_taken() {
    let lan = Lan::new(3);
    let ip = |host: u8, arguments: &str| {
        assert!(lan.command(host, "ip").args(arguments.split(' ')).status().unwrap().success());
    };
    ip(2, "addr add 10.99.2.1/24 dev lo");
    // What a container network looks like on the host that accepts.
    ip(1, "link add br-0123456789ab type bridge");
    ip(1, "addr add 172.30.0.1/16 dev br-0123456789ab");
    ip(1, "link set br-0123456789ab up");
    let claims = "10.99.2.0/24,0.0.0.0/0,128.0.0.0/1,192.168.77.0/24,192.168.77.3/32,172.30.0.2/32";
    let accept = ["--accept-routes", "0.0.0.0/0"];
    let (mut one, two) = (lan.join(1, &accept), lan.join(2, &["--advertise-routes", claims]));
    let careful = lan.join(3, &[]);
    let (_, to) = (two.mesh_ip().await, careful.mesh_ip().await);
    let routes = |host: u8| {
        let output =
            lan.command(host, "ip").args(["route", "show", "dev", "wg0"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let foreign = text.lines().filter(|line| !line.contains("proto kernel"));
        foreign.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    eventually("a ping behind the peer", || lan.pings(1, "10.99.2.1").then_some(()));
    assert_eq!(routes(1), ["10.99.2.0/24"]);
    eventually("the mesh stands", || lan.pings(1, &to).then_some(()));
    assert_eq!(routes(3), Vec::<String>::new(), "who accepts nothing has nothing");
    assert!(!lan.pings(3, "10.99.2.1"));
    let log = one.log();
    for why in ["it is wider than a /8", "this host reaches 192.168.77.0/24 without the mesh"] {
        assert!(log.contains(why), "{why}: {log}");
    }
    assert!(log.contains("this host reaches 172.30.0.0/16 without the mesh"), "{log}");

    ip(1, "route del 10.99.2.0/24 dev wg0");
    eventually("it is put back", || (routes(1) == ["10.99.2.0/24"]).then_some(()));
    one.signal(Signal::SIGTERM);
    assert!(one.ends());
    assert_eq!(routes(1), ["10.99.2.0/24"], "it stays as the interface does");
    drop(one);
    let _one = lan.join(1, &accept);
    eventually("a ping after the restart", || lan.pings(1, "10.99.2.1").then_some(()));

    two.client.leave().await.unwrap();
    eventually("it goes with its peer", || routes(1).is_empty().then_some(()));
}

#[test]
fn more_routes_than_can_be_told_are_refused_at_the_start() {
    let lan = Lan::new(1);
    let routes: Vec<String> = (0..60).map(|at| format!("10.{at}.0.0/24")).collect();
    let mut one = lan.join(1, &["--advertise-routes", &routes.join(",")]);
    assert!(!one.ends());
    let log = one.log();
    assert!(log.contains("names 60 networks, of which the first "), "{log}");
    assert!(log.contains("name fewer and wider ones"), "{log}");
    assert_eq!(lan.mesh_interface(1), "", "before anything was made");
}
