//! What is wrong with a host is found, by its name and with the way out.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::support::{Lan, MESHCTL, eventually};

/// Runs the doctor; what each check found, the worst of it first, and whether nothing failed.
fn doctor(lan: &Lan, host: u8) -> (BTreeMap<String, Value>, bool) {
    let mut command: Command = lan.command(host, MESHCTL);
    let command = command.args(["doctor", "-o", "json", "--state-dir"]).arg(lan.state_dir(host));
    let command = command.arg("--secret-file").arg(lan.secret_file());
    let output = command.env("WGMESH_SOCKET", lan.socket(host)).output().unwrap();
    let error = || String::from_utf8_lossy(&output.stderr).into_owned();
    let findings: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", error()));
    let mut worst = BTreeMap::new();
    for finding in findings {
        let check = finding["check"].as_str().unwrap().to_owned();
        if finding["verdict"] == "warn" || finding["verdict"] == "fail" {
            assert!(finding["fix"].is_string(), "a finding without a way out: {finding}");
            worst.insert(check, finding);
        } else {
            worst.entry(check).or_insert(finding);
        }
    }
    (worst, output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_found_and_a_sound_host_has_none() {
    let lan = Lan::new(2);
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = lan.command(1, words[0]);
        assert!(command.args(&words[1..]).status().unwrap().success(), "{line}");
    };
    run("sysctl -qw net.ipv4.ip_forward=1");
    let one = lan.join(1, &["--advertise-routes", "10.99.1.0/24"]);
    let two = lan.join(2, &[]);
    let (ip, other) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("the mesh stands", || lan.pings(1, &other).then_some(()));

    let (sound, is_well) = doctor(&lan, 1);
    assert!(is_well, "{sound:#?}");
    for check in [
        "daemon",
        "interface",
        "ports",
        "firewall",
        "multicast",
        "addresses",
        "peers",
        "clocks",
        "path mtu",
        "forwarding",
        "forward rules",
        "files",
    ] {
        assert_eq!(sound[check]["verdict"], "ok", "{check}: {}", sound[check]);
    }

    run("sysctl -qw net.ipv4.ip_forward=0");
    run("nft add table inet wall");
    run("nft add chain inet wall input { type filter hook input priority 0 ; policy drop ; }");
    run("nft add rule inet wall input udp dport 51820 accept");
    run("nft add rule inet wall input iifname wg0 accept");
    run("nft add chain inet wall forward { type filter hook forward priority 0 ; policy drop ; }");
    run("ip link add br-0123456789ab type bridge");
    run(&format!("ip addr add {ip}/30 dev br-0123456789ab"));
    run("ip link set br-0123456789ab up");
    run("ip link set eth0 mtu 1400");
    let secret_mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(lan.secret_file(), secret_mode).unwrap();
    let (ill, is_well) = doctor(&lan, 1);
    assert!(!is_well, "{ill:#?}");
    for (check, verdict, words) in [
        ("forwarding", "fail", "advertises 10.99.1.0/24 and does not forward"),
        ("firewall", "fail", "is closed by the policy of chain input in table inet wall"),
        ("forward rules", "fail", "is dropped by the policy of chain forward"),
        ("addresses", "fail", "lies inside the mesh's"),
        ("path mtu", "warn", "takes 1400 bytes, and the tunnel makes packets of 1480"),
        ("files", "warn", "is open to others (mode 644)"),
    ] {
        assert_eq!(ill[check]["verdict"], verdict, "{check}: {}", ill[check]);
        assert!(ill[check]["seen"].as_str().unwrap().contains(words), "{}", ill[check]);
    }

    one.kill();
    let (dead, is_well) = doctor(&lan, 1);
    assert!(!is_well);
    assert_eq!(dead["daemon"]["verdict"], "fail");
    assert!(dead["interface"]["seen"].as_str().unwrap().contains("stands without a daemon"));
    assert_eq!(dead["ports"]["verdict"], "ok", "they are free: {}", dead["ports"]);
}
