//! The daemon: whether it answers, listens, and hears its peers with clocks that agree.

use std::collections::BTreeMap;

use knit_rpc::jsonrpc::{MeshPeer, PeerState};
use meshctl_core::derive::MULTICAST_PORT;
use meshctl_core::mesh::PEER_CLOCK_WARN_SECS;

use super::super::facts::{Facts, Transport};
use super::Finding;
use crate::commands::seen::name;

/// Beyond this a message is not taken at all.
const CLOCK_MAX_SECS: u64 = 600;
/// Whoever is near that will be beyond it soon.
const CLOCK_NEAR_SECS: u64 = 540;

pub(super) fn socket(facts: &Facts) -> Finding {
    match &facts.daemon {
        Ok(daemon) => {
            let kind = if daemon.is_ours { "" } else { " (the Go daemon)" };
            let version = &daemon.node.status.version;
            let socket = facts.socket.display();
            Finding::ok("daemon", format!("{version}{kind} answers on {socket}"))
        }
        Err(none) if none.is_denied => Finding::warn(
            "daemon",
            format!("{} is not for this user", facts.socket.display()),
            "sudo meshctl doctor, or join with --socket-group and be in that group",
        ),
        Err(none) => Finding::fail(
            "daemon",
            none.why.clone(),
            "meshctl join --secret-file FILE, or systemctl start its service",
        ),
    }
}

/// Whether there is a daemon, as far as this user may know.
fn runs(facts: &Facts) -> bool {
    facts.daemon.as_ref().map_or_else(|none| none.is_denied, |_| true)
}

pub(super) fn interface(facts: &Facts) -> Finding {
    let name = &facts.interface;
    match (facts.has_interface, runs(facts)) {
        (None, _) => Finding::skip("interface", "the interfaces could not be read"),
        (Some(true), true) => Finding::ok("interface", format!("{name} is there")),
        (Some(false), true) => Finding::fail(
            "interface",
            format!("the daemon runs and {name} is gone"),
            "restart the daemon: it makes the interface anew",
        ),
        (Some(true), false) => Finding::warn(
            "interface",
            format!(
                "{name} stands without a daemon: no peer is found, and in userspace nothing moves"
            ),
            format!("start the daemon, which takes it over, or remove it: ip link del {name}"),
        ),
        (Some(false), false) => Finding::skip("interface", format!("there is no {name} yet")),
    }
}

pub(super) fn ports(facts: &Facts) -> Vec<Finding> {
    let Some(mesh) = &facts.mesh else {
        let seen = "the mesh's ports follow from the secret: no daemon tells them, and no --secret-file is given";
        return vec![Finding::skip("ports", seen)];
    };
    let runs = runs(facts);
    let mut wanted = vec![
        (Transport::Udp, mesh.listen_port, "WireGuard"),
        (Transport::Udp, mesh.exchange_port, "exchange"),
    ];
    if mesh.lan {
        wanted.push((Transport::Udp, MULTICAST_PORT, "LAN discovery"));
    }
    wanted.push((Transport::Tcp, mesh.probe_port, "probe"));
    wanted.retain(|(_, port, _)| *port > 0);
    let listed: Vec<String> = wanted
        .iter()
        .map(|(transport, port, what)| format!("{what} {}/{port}", transport.as_str()))
        .collect();
    let mut findings = Vec::new();
    for (transport, port, what) in wanted {
        let found =
            facts.bound.iter().find(|bound| (bound.transport, bound.port) == (transport, port));
        let shown = format!("{} port {port} ({what})", transport.as_str().to_uppercase());
        // The port of LAN discovery is shared by the meshes of a host.
        let is_shared = port == MULTICAST_PORT;
        match (runs, found) {
            (true, None) => findings.push(Finding::fail(
                "ports",
                format!("nobody listens on {shown}"),
                "see the daemon's log and restart it",
            )),
            (false, Some(bound)) if !is_shared => {
                let by = bound.owner.clone().unwrap_or_else(|| "something".to_owned());
                findings.push(Finding::fail(
                    "ports",
                    format!("{by} has {shown} already"),
                    format!("stop it; `ss -lnp sport = :{port}` shows it"),
                ));
            }
            (true | false, Some(_)) | (false, None) => {}
        }
    }
    if findings.is_empty() {
        let what = if runs { "listening" } else { "free" };
        findings.push(Finding::ok("ports", format!("{what}: {}", listed.join(", "))));
    }
    findings
}

pub(super) fn peers(facts: &Facts) -> Vec<Finding> {
    let Ok(daemon) = &facts.daemon else { return Vec::new() };
    if daemon.peers.is_empty() {
        return vec![Finding::warn(
            "peers",
            "this node knows no other",
            "check that others have joined with the same secret; across networks, name one with --seed",
        )];
    }
    let well = |peer: &&MeshPeer| matches!(peer.state, PeerState::Up | PeerState::Heard);
    let ill: Vec<&MeshPeer> = daemon.peers.iter().filter(|peer| !well(peer)).collect();
    if ill.is_empty() {
        return vec![Finding::ok("peers", format!("{} known, all well", daemon.peers.len()))];
    }
    ill.into_iter()
        .map(|peer| {
            let why = peer.why.as_deref().unwrap_or("the daemon does not say why");
            let seen = format!("{} is {}: {why}", name(peer), peer.state.as_str());
            Finding::warn("peers", seen, "run meshctl doctor there too")
        })
        .collect()
}

pub(super) fn clocks(facts: &Facts) -> Vec<Finding> {
    let Ok(daemon) = &facts.daemon else { return Vec::new() };
    let offsets: BTreeMap<String, i64> = daemon
        .peers
        .iter()
        .filter_map(|peer| Some((name(peer), peer.clock_offset_secs?)))
        .collect();
    if offsets.is_empty() {
        return vec![Finding::skip("clocks", "no peer's clock is known")];
    }
    let off: Vec<Finding> = offsets
        .iter()
        .filter(|(_, secs)| secs.unsigned_abs() > PEER_CLOCK_WARN_SECS)
        .map(|(peer, secs)| {
            let direction = if *secs > 0 { "ahead" } else { "behind" };
            let seen = format!(
                "{peer}'s clock is {} s {direction}; beyond {CLOCK_MAX_SECS} s it is not heard at all",
                secs.unsigned_abs()
            );
            let fix = "timedatectl set-ntp true, on whichever of the two is wrong";
            if secs.unsigned_abs() > CLOCK_NEAR_SECS {
                Finding::fail("clocks", seen, fix)
            } else {
                Finding::warn("clocks", seen, fix)
            }
        })
        .collect();
    if off.is_empty() {
        let most = offsets.values().map(|secs| secs.unsigned_abs()).max().unwrap_or_default();
        return vec![Finding::ok("clocks", format!("within {most} s of {} peers", offsets.len()))];
    }
    off
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Bound, Daemon, MeshFacts, Unanswered};
    use super::super::Verdict;
    use super::*;
    use knit_rpc::jsonrpc::PeerInfo;

    fn peer(name: &str, state: PeerState, offset: i64) -> MeshPeer {
        MeshPeer {
            info: PeerInfo { hostname: name.into(), ..PeerInfo::default() },
            state,
            clock_offset_secs: Some(offset),
            ..MeshPeer::default()
        }
    }

    fn with_peers(peers: Vec<MeshPeer>) -> Facts {
        Facts { daemon: Ok(Daemon { peers, ..Daemon::default() }), ..Facts::default() }
    }

    #[test]
    fn who_may_not_ask_is_not_told_that_nobody_is_there() {
        for (is_denied, expected) in [(false, Verdict::Fail), (true, Verdict::Warn)] {
            let daemon = Err(Unanswered { is_denied, ..Unanswered::default() });
            let facts = Facts { daemon, has_interface: Some(true), ..Facts::default() };
            assert_eq!(socket(&facts).verdict, expected);
            let there = if is_denied { Verdict::Ok } else { Verdict::Warn };
            assert_eq!(interface(&facts).verdict, there);
        }
    }

    #[test]
    fn a_persistent_interface_without_a_daemon_is_told() {
        let none = || Err(Unanswered::default());
        for (there, daemon, expected) in [
            (Some(true), Ok(Daemon::default()), Verdict::Ok),
            (Some(false), Ok(Daemon::default()), Verdict::Fail),
            (Some(true), none(), Verdict::Warn),
            (Some(false), none(), Verdict::Skip),
            (None, none(), Verdict::Skip),
        ] {
            let facts = Facts { has_interface: there, daemon, ..Facts::default() };
            assert_eq!(interface(&facts).verdict, expected, "{there:?}");
        }
    }

    #[test]
    fn ports_are_the_daemons_or_free() {
        let mesh = MeshFacts {
            listen_port: 51820,
            exchange_port: 52000,
            probe_port: 54000,
            lan: true,
            ..MeshFacts::default()
        };
        let bound = |transport, port| Bound { transport, port, owner: Some("x (7)".into()) };
        let all = vec![
            bound(Transport::Udp, 51820),
            bound(Transport::Udp, 52000),
            bound(Transport::Udp, MULTICAST_PORT),
            bound(Transport::Tcp, 54000),
        ];
        for (runs, found, expected) in [
            (true, all.clone(), vec![Verdict::Ok]),
            (true, all[1..].to_vec(), vec![Verdict::Fail]),
            (false, vec![], vec![Verdict::Ok]),
            (false, vec![bound(Transport::Udp, MULTICAST_PORT)], vec![Verdict::Ok]),
            (false, all, vec![Verdict::Fail; 3]),
        ] {
            let daemon = if runs { Ok(Daemon::default()) } else { Err(Unanswered::default()) };
            let facts =
                Facts { daemon, mesh: Some(mesh.clone()), bound: found, ..Facts::default() };
            let verdicts: Vec<_> = ports(&facts).iter().map(|finding| finding.verdict).collect();
            assert_eq!(verdicts, expected, "{runs} {:?}", facts.bound);
        }
        let unknown = Facts { daemon: Err(Unanswered::default()), ..Facts::default() };
        assert_eq!(ports(&unknown)[0].verdict, Verdict::Skip);
    }

    #[test]
    fn clocks_and_peers_are_judged_each() {
        for (offset, expected) in [
            (0, Verdict::Ok),
            (-60, Verdict::Ok),
            (61, Verdict::Warn),
            (-300, Verdict::Warn),
            (595, Verdict::Fail),
            (i64::MIN, Verdict::Fail),
        ] {
            let facts = with_peers(vec![peer("a", PeerState::Up, offset)]);
            assert_eq!(clocks(&facts)[0].verdict, expected, "{offset}");
        }
        let facts = with_peers(vec![peer("a", PeerState::Up, 0), peer("b", PeerState::Never, 0)]);
        let findings = peers(&facts);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].seen.starts_with("b is never: "), "{findings:?}");
        assert_eq!(peers(&with_peers(vec![]))[0].verdict, Verdict::Warn);
    }
}
