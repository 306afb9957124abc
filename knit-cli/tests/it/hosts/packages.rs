//! Hosts that have Knit from Debian packages: installed, configured, upgraded under load, removed and
//! purged, by apt and systemd as they are.

mod beside;
mod built;
mod left;
mod place;

use std::collections::BTreeMap;
use std::thread;

use crate::support::debian::Host;
use crate::support::{Load, stdout};
use built::{Built, NEW_LINE};
use place::{ON_FIRST, ON_OTHERS, Place, apt, install};

const PORT: u16 = 8080;
/// New connections a second, from each host to the next.
const RATE: u32 = 20;
const UNITS: [&str; 3] = ["wg-mesh", "knit-agent", "knit-server"];

#[test]
fn hosts_live_by_packages_from_the_first_installation_to_the_last_purge() {
    let place = Place::new();
    // Higher versions of the same programs are made while the rest goes on.
    thread::spawn(|| Built::New.build());
    let [first, second, third] = &place.hosts;
    thread::scope(|scope| {
        scope.spawn(|| install(first, Built::Old, &ON_FIRST));
        scope.spawn(|| install(second, Built::Old, &ON_OTHERS));
    });
    what_is_not_configured_is_quiet_and_says_how(first);
    place.configure_first();
    place.join_by_hand(second);
    place.join_by_ssh(third);
    place.wait_for_nodes();
    place.deploy(PORT);

    Built::New.build();
    an_upgrade_under_load_is_not_noticed(&place);
    a_removed_package_leaves_data_and_containers(&place, second);
    purged_packages_leave_nothing_but_volumes(&place);
}

fn what_is_not_configured_is_quiet_and_says_how(host: &Host) {
    for (unit, words) in [
        ("wg-mesh", "meshctl init >/etc/knit/mesh.secret"),
        ("knit-agent", "knit-agent join"),
        ("knit-server", "knit-server init"),
    ] {
        let state = host.try_run(&format!("systemctl is-active {unit}"), "");
        assert_eq!(stdout(&state), "inactive", "{unit}");
        assert_eq!(host.run(&format!("systemctl is-enabled {unit}")), "enabled", "{unit}");
        let status = stdout(&host.try_run(&format!("systemctl status --no-pager {unit}"), ""));
        assert!(status.contains("not configured yet: ") && status.contains(words), "{status}");
    }
    assert_eq!(host.run("systemctl is-system-running"), "running");
    // The other service of the package that ours needs is left alone.
    assert_eq!(host.run("systemctl is-active nats-server docker"), "active\nactive");
}

/// What must be the same before and after.
fn containers(host: &Host) -> String {
    host.run("docker ps -q --no-trunc --filter label=knit.cluster | sort")
}

fn pids(host: &Host) -> BTreeMap<&'static str, String> {
    let pid = |unit| host.run(&format!("systemctl show -p MainPID --value {unit}"));
    UNITS.into_iter().map(|unit| (unit, pid(unit))).filter(|(_, pid)| pid != "0").collect()
}

fn an_upgrade_under_load_is_not_noticed(place: &Place) {
    let [first, second, third] = &place.hosts;
    second.run("echo '# by the administrator' >>/etc/knit/agent.toml");
    third.run("systemctl disable -q wg-mesh");
    let [one, two, three] = place.wait_for_nodes();
    let loads = [(first, two), (second, three), (third, one)]
        .map(|(from, to)| Load::from(&from.netns, (to, PORT).into(), RATE));
    for host in &place.hosts {
        let (ran, had) = (containers(host), pids(host));
        let packages: &[&str] =
            if had.contains_key("knit-server") { &ON_FIRST } else { &ON_OTHERS };
        install(host, Built::New, packages);
        let has = pids(host);
        assert_eq!(had.len(), has.len(), "{}", host.log());
        for (unit, pid) in &has {
            assert_eq!(host.run(&format!("systemctl is-active {unit}")), "active");
            assert_ne!(pid, &had[unit], "{unit} is the new one");
        }
        assert_eq!(containers(host), ran, "no container was touched");
    }
    place.wait_for_nodes();
    for load in loads {
        let tally = load.stop();
        assert!(tally.requests > u64::from(RATE), "{tally}");
        assert_eq!(tally.failed, 0, "{tally}");
        knit_runtime::terminal::eprintln(&format!("under the upgrades: {tally}"));
    }
    let last_line = |host: &Host| host.run("tail -n 1 /etc/knit/agent.toml");
    assert_eq!(last_line(second), "# by the administrator", "what somebody changed stays");
    assert_eq!(last_line(first), NEW_LINE, "the rest follows");
    assert_ne!(last_line(third), NEW_LINE, "what a join without packages wrote stays as well");
    let enabled = third.try_run("systemctl is-enabled wg-mesh", "");
    assert_eq!(stdout(&enabled), "disabled", "whoever disabled it meant it");
    third.run("systemctl enable -q wg-mesh");
}

fn a_removed_package_leaves_data_and_containers(place: &Place, host: &Host) {
    let ran = containers(host);
    apt(host, "remove knit-agent meshctl");
    assert_eq!(pids(host), BTreeMap::new());
    assert_eq!(containers(host), ran, "they run on");
    host.run("test -s /var/lib/knit-agent/identity.json -a -s /etc/knit/mesh.secret");
    host.run("nft list table ip knit >/dev/null");
    assert!(!host.try_run("ip link show wg0", "").status.success(), "it has left the mesh");
    assert_eq!(host.run("systemctl is-system-running"), "running");
    install(host, Built::New, &ON_OTHERS);
    place.wait_for_nodes();
    assert_eq!(containers(host), ran, "and it is the same node");
}

fn purged_packages_leave_nothing_but_volumes(place: &Place) {
    let mut told = String::new();
    for host in &place.hosts {
        let is_first = std::ptr::eq(host, &raw const place.hosts[0]);
        let packages = if is_first { ON_FIRST.join(" ") } else { ON_OTHERS.join(" ") };
        let files = left::files_of(host, &packages);
        told += &apt(host, &format!("purge {packages}"));
        left::nothing_is_left(host, &files);
    }
    assert!(told.contains("docker volume rm knit.default.kept.0"), "{told}");
    let volumes = place.hosts.iter().map(|host| host.run("docker volume ls -q"));
    assert_eq!(volumes.collect::<String>(), "knit.default.kept.0", "data is nobody's to remove");
}
