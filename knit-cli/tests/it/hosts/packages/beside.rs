//! The sidecar's package on a host that the Go daemon keeps in its mesh.

use super::Built;
use super::place::{apt, boot, install};
use crate::support::{Laptop, stdout};

/// As its package would install it.
const GO_DAEMON: &str = "printf '[Service]\\nExecStart=/bin/sleep infinity\\n\
     [Install]\\nWantedBy=multi-user.target\\n' >/etc/systemd/system/wgmesh.service
     systemctl daemon-reload && systemctl enable --now -q wgmesh";

/// Where both daemons keep the host's key.
const KEY: &str = "/var/lib/wgmesh/wg0.json";

#[test]
fn the_go_daemon_keeps_its_host_until_somebody_changes_over() {
    Built::Old.build();
    Built::New.build();
    let laptop = Laptop::new("go");
    let host = boot(&laptop, 1);
    let states = || {
        let line = "systemctl is-active wgmesh wg-mesh; systemctl is-enabled wg-mesh";
        stdout(&host.try_run(line, ""))
    };
    install(&host, Built::Old, &["meshctl"]);
    assert_eq!(host.run("systemctl is-enabled wg-mesh"), "enabled");
    host.run(GO_DAEMON);
    let told = install(&host, Built::New, &["meshctl"]);
    assert!(told.contains("wgmesh keeps this host in its mesh"), "{told}");
    assert_eq!(states(), "active\ninactive\ndisabled", "it came after the first installation");
    apt(&host, "purge meshctl");

    let told = install(&host, Built::Old, &["meshctl"]);
    assert!(told.contains("wgmesh keeps this host in its mesh"), "{told}");
    assert_eq!(states(), "active\ninactive\ndisabled");
    install(&host, Built::New, &["meshctl"]);
    assert_eq!(states(), "active\ninactive\ndisabled", "an upgrade changes nothing of it");
    host.run(&format!("mkdir -p /var/lib/wgmesh && echo key >{KEY}"));
    let told = apt(&host, "purge meshctl");
    assert!(told.contains("/var/lib/wgmesh is kept"), "{told}");
    assert_eq!(host.run(&format!("cat {KEY}; systemctl is-active wgmesh")), "key\nactive");
    host.run("rm -r /var/lib/wgmesh");

    install(&host, Built::New, &["meshctl"]);
    host.run("meshctl init >/etc/knit/mesh.secret && systemctl enable --now -q wg-mesh");
    assert_eq!(states(), "inactive\nactive\nenabled", "there is one at a time");
    host.run("systemctl disable -q wgmesh && rm /etc/systemd/system/wgmesh.service");
    // What a daemon leaves that was killed goes with the package all the same.
    host.run("systemctl kill -s KILL wg-mesh; systemctl stop wg-mesh; ip link show wg0");
    apt(&host, "purge meshctl");
    assert!(!host.try_run("ip link show wg0", "").status.success());
    host.run("test ! -e /var/lib/wgmesh");
}
