//! What packages leave on a host: nothing but what somebody may still want.

use crate::support::debian::Host;

/// Files of ours, by name; the volumes of containers are Docker's and stay.
const BY_NAME: &str = "find / /run -xdev \\( -path /mnt -o -path /proc -o -path /sys \\) -prune -o \
     \\( -name '*knit*' -o -name '*wg-mesh*' -o -name '*wgmesh*' -o -name '*meshctl*' \\) -print";

/// Whatever else a host may hold of ours, each told by what it shows.
const NOTHING_SHOWS: [&str; 7] = [
    "systemctl list-unit-files --all --no-legend | grep -E 'knit|wg-mesh'",
    "systemctl list-units --all --no-legend | grep -E 'knit|wg-mesh'",
    "nft list tables | grep -E 'knit'",
    "iptables -S | grep -E '0x6b6e|wg0'",
    "ip -o link | grep -E 'wg0|knit'",
    "docker ps -aq --filter label=knit.cluster",
    "docker network ls -q --filter label=knit.cluster",
];

/// The files that the packages put there, as dpkg knows them.
pub(super) fn files_of(host: &Host, packages: &str) -> Vec<String> {
    let listed = host.run(&format!("dpkg -L {packages}"));
    let is_file = |path: &&str| host.try_run(&format!("test -f '{path}'"), "").status.success();
    let files: Vec<String> = listed.lines().filter(is_file).map(ToOwned::to_owned).collect();
    assert!(files.len() > 10, "{listed}");
    files
}

/// After a purge.
#[track_caller]
pub(super) fn nothing_is_left(host: &Host, files: &[String]) {
    let there = files.iter().map(|path| format!("[ ! -e '{path}' ] || echo '{path}'\n"));
    assert_eq!(host.run(&there.collect::<String>()), "", "files of a package");
    assert_eq!(host.run(BY_NAME), "", "files by name");
    for line in NOTHING_SHOWS {
        assert_eq!(host.run(&format!("{line} || true")), "", "{line}");
    }
    assert_eq!(host.run("systemctl is-system-running"), "running");
}
