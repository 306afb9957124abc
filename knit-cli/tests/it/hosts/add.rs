//! From a bare Debian to a node with one command, by ssh and systemd as they are.
//!
//! One host runs the server from its unit, one is to become a node; the laptop between them is in
//! no mesh and reaches both by ssh alone.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::debian::Host;
use crate::support::{
    IMAGE, Laptop, image_tar, processes_with, stderr, stdout, wait_until, wait_within,
};

const NODE_IP: &str = "10.88.0.2";

/// The laptop, and the two hosts.
struct Place {
    server: Host,
    node: Host,
    laptop: Laptop,
}

impl Place {
    fn new() -> Self {
        let laptop = Laptop::new("add");
        let programs = Path::new(env!("CARGO_BIN_EXE_knit")).parent().unwrap();
        let packaging = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging"));
        let server = laptop.boot(1, &[(programs, "/mnt/bin"), (packaging, "/mnt/packaging")]);
        let node = laptop.boot(2, &[]);
        Self { server, node, laptop }
    }

    fn dir(&self) -> &Path {
        self.laptop.dir.path()
    }

    /// `knit` on the laptop.
    fn knit(&self, arguments: &[&str]) -> Command {
        self.laptop.knit(arguments)
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        self.laptop.try_json(arguments).unwrap_or_else(|why| panic!("{why}\n{}", self.server.log()))
    }

    fn secret_file(&self) -> PathBuf {
        self.dir().join("mesh.secret")
    }

    /// `knit node add` of the second host.
    fn add(&self, more: &[&str]) -> Command {
        let mut command = self.knit(&["node", "add", &format!("root@{NODE_IP}")]);
        command.arg("--mesh-secret-file").arg(self.secret_file()).args(more);
        command
    }

    /// Sets up the server as its package does, but for the configuration.
    fn install_server(&self) {
        self.server.run(
            "install -m 755 /mnt/bin/meshctl /mnt/bin/knit-agent /mnt/bin/knit-server /mnt/bin/knit /usr/bin/
             apt-get -y -q --no-install-recommends install nats-server </dev/null >/dev/null 2>&1
             install -m 644 /mnt/packaging/systemd/*.service /etc/systemd/system/
             systemd-sysusers /mnt/packaging/debian/*/*.sysusers
             mkdir -p /etc/knit && touch /etc/knit/mesh.toml /etc/knit/agent.toml /etc/knit/server.toml
             systemctl daemon-reload",
        );
    }
}

#[test]
fn a_bare_debian_becomes_a_node_by_one_command_from_a_laptop_outside_the_mesh() {
    let place = Place::new();
    place.install_server();
    units_without_a_configuration_stay_quiet(&place.server);
    place.server.run("meshctl init >/etc/knit/mesh.secret && chmod 600 /etc/knit/mesh.secret");
    place
        .server
        .run("knit-server init >/dev/null && systemctl enable --now -q wg-mesh knit-server");
    std::fs::write(place.secret_file(), place.server.run("cat /etc/knit/mesh.secret")).unwrap();
    wait_until("the server to be well", || {
        let listed = place.knit(&["node", "ls"]).output().unwrap();
        if listed.status.success() { Ok(()) } else { Err(place.server.log()) }
    });

    what_is_missing_is_told_and_the_token_is_revoked(&place);
    a_connection_that_breaks_and_two_at_once_do_no_harm(&place);
    let node = place.json(&["node", "ls"]);
    let node = node.as_array().unwrap().iter().find(|node| node["name"] == "new-1").unwrap();
    assert_eq!((&node["state"], &node["labels"]["zone"]), (&json!("ready"), &json!("a")), "{node}");

    no_secret_lies_about(&place);
    the_daemons_have_few_rights(&place);
    a_sidecar_of_few_rights_can_be_an_introducer(&place.node);
    its_containers_run_and_outlive_the_daemons(&place);
    again_is_nothing(&place, node["id"].as_str().unwrap());
    who_is_not_root_there_takes_sudo_without_a_password(&place);
}

fn units_without_a_configuration_stay_quiet(host: &Host) {
    host.run("systemctl start wg-mesh knit-agent knit-server");
    let states = host.try_run("systemctl is-active wg-mesh knit-agent knit-server", "");
    assert_eq!(stdout(&states), "inactive\ninactive\ninactive");
    assert_eq!(host.run("systemctl is-system-running"), "running");
    for (unit, words) in [
        ("wg-mesh", "meshctl init >/etc/knit/mesh.secret"),
        ("knit-agent", "knit-agent join"),
        ("knit-server", "knit-server init"),
    ] {
        let why = stdout(&host.try_run(&format!("systemctl status --no-pager {unit}"), ""));
        assert!(why.contains("not configured yet: ") && why.contains(words), "{why}");
    }
}

fn what_is_missing_is_told_and_the_token_is_revoked(place: &Place) {
    let output = place.add(&["--no-install"]).output().unwrap();
    let told = stderr(&output);
    for words in ["missing: docker.io nftables iptables", "the join token was not spent"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!output.status.success());
    let tokens = place.server.run("knit audit | grep -c 'DELETE .*/join-tokens'");
    assert_eq!(tokens, "1", "revoked");
    assert!(!place.node.try_run("test -e /etc/knit", "").status.success(), "nothing was begun");
}

/// The first try loses its ssh in the middle; then two try at once, and one of them succeeds.
fn a_connection_that_breaks_and_two_at_once_do_no_harm(place: &Place) {
    let mut first = place.add(&[]).spawn().unwrap();
    let mut lines = BufReader::new(first.stderr.take().unwrap()).lines().map_while(Result::ok);
    let seen = lines.find(|line| line.contains("installing docker.io"));
    assert!(seen.is_some(), "it got so far");
    let own = processes_with(&format!("root@{NODE_IP}"));
    let masters = own.iter().filter(|line| line.contains("ControlMaster=yes"));
    for line in masters {
        let pid = line.split_whitespace().next().unwrap().parse().unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    let rest: Vec<String> = lines.collect();
    assert!(!first.wait().unwrap().success() && rest.join("\n").contains("the connection broke"));

    let labels = ["--label", "zone=a", "--name", "new-1"];
    let outcome = |output: &Output| {
        let told = stderr(output);
        // The first one's installation may still be under way over there.
        let busy = told.contains("another join is under way") || told.contains("apt-get");
        assert!(output.status.success() || busy, "{told}\n{}", place.node.log());
        output.status.success()
    };
    wait_within(Duration::from_secs(90), "one of two to succeed", || {
        let both = thread::scope(|scope| {
            let add = || place.add(&labels).output().unwrap();
            let (one, other) = (scope.spawn(add), scope.spawn(add));
            [one.join().unwrap(), other.join().unwrap()]
        });
        let done = both.iter().filter(|output| outcome(output)).count();
        if done > 0 { Ok(()) } else { Err(both.map(|output| stderr(&output)).join("\n")) }
    });
}

fn no_secret_lies_about(place: &Place) {
    let secret = std::fs::read_to_string(place.secret_file()).unwrap();
    let found = place.node.feed(
        "grep -rlFf - /etc /var/lib/knit-agent /var/log /run/log /tmp /root /run/systemd 2>/dev/null; true",
        &secret,
    );
    assert_eq!(found, "/etc/knit/mesh.secret");
    let mode = place.node.run("stat -c %a-%U /etc/knit/mesh.secret");
    assert_eq!(mode, "600-root");
    let tokens = "grep -rlE 'knit-join_S' /etc /var /tmp /root /run 2>/dev/null; true";
    assert_eq!(place.node.run(tokens), "", "the token was spent");
}

/// As the kernel sees them: root, user and capabilities.
fn the_daemons_have_few_rights(place: &Place) {
    let rights = |host: &Host, unit: &str| {
        host.run(&format!(
            "awk '/^(Uid|CapEff|NoNewPrivs|Seccomp):/ {{ printf \"%s%s \", $1, $2 }}' \
             /proc/$(systemctl show -p MainPID --value {unit})/status"
        ))
    };
    let uid = |host: &Host, user: &str| host.run(&format!("id -u {user}"));
    let (mesh, server) = (uid(&place.node, "wg-mesh"), uid(&place.server, "knit-server"));
    for (host, unit, uid, capabilities) in [
        // NET_ADMIN.
        (&place.node, "wg-mesh", mesh.as_str(), "0000000000001000"),
        // NET_ADMIN, CHOWN, FOWNER.
        (&place.node, "knit-agent", "0", "0000000000001009"),
        (&place.server, "knit-server", server.as_str(), "0000000000000000"),
    ] {
        let wanted = format!("Uid:{uid} CapEff:{capabilities} NoNewPrivs:1 Seccomp:2");
        assert_eq!(rights(host, unit), wanted, "{unit}");
    }
}

/// What an introducer adds takes no more rights.
fn a_sidecar_of_few_rights_can_be_an_introducer(host: &Host) {
    host.run("echo 'introducer = true' >>/etc/knit/mesh.toml && systemctl restart wg-mesh");
    assert_eq!(host.run("cat /proc/sys/net/ipv4/conf/wg0/forwarding"), "1");
    host.run("nft list ruleset | grep -q 'table inet .*wg0'");
}

/// A container with a published port and a file of its user's; daemons that hang are ended by
/// their watchdog and started again, and it runs on.
fn its_containers_run_and_outlive_the_daemons(place: &Place) {
    let tar = image_tar(place.dir());
    place.node.put(&tar, "/root/image.tar");
    place.node.run(&format!("docker import -c 'ENV PATH=/bin' /root/image.tar {IMAGE} >/dev/null"));
    let manifest = json!({
        "name": "web",
        "image": IMAGE,
        "command": ["httpd", "-f", "-p", "80", "-h", "/srv"],
        "user": "1000",
        "ports": [{ "container_port": 80, "host_port": 8080 }],
        "templates": [{
            "destination": "/srv/index.html", "content": "hello from {{node.name}}",
            "uid": 1000, "mode": "0400",
        }],
    });
    let file = place.dir().join("web.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    let output = place.knit(&["deploy", "-f", file.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}\n{}", stderr(&output), place.node.log());
    let nodes = place.json(&["node", "ls"]);
    let address = nodes.as_array().unwrap().iter().find(|node| node["name"] == "new-1").unwrap();
    let address = address["mesh_ip"].as_str().unwrap();
    let get =
        format!("exec 3<>/dev/tcp/{address}/8080; echo 'GET / HTTP/1.0' >&3; echo >&3; cat <&3");
    let page = || place.server.try_run("bash", &get);
    wait_until("the page over the mesh", || {
        let page = stdout(&page());
        if page.ends_with("hello from new-1") { Ok(()) } else { Err(page) }
    });

    let containers = place.node.run("docker ps -q --no-trunc");
    for unit in ["wg-mesh", "knit-agent"] {
        place.node.run(&format!(
            "mkdir -p /run/systemd/system/{unit}.service.d
             printf '[Service]\\nWatchdogSec=2\\n' >/run/systemd/system/{unit}.service.d/brief.conf
             systemctl daemon-reload && systemctl restart {unit}
             kill -STOP $(systemctl show -p MainPID --value {unit})"
        ));
    }
    for unit in ["wg-mesh", "knit-agent"] {
        wait_until("the watchdog to start it again", || {
            let line = format!("systemctl show -p NRestarts -p ActiveState --value {unit}");
            let state = place.node.run(&line);
            if state == "1\nactive" || state == "active\n1" { Ok(()) } else { Err(state) }
        });
    }
    wait_until("the node to be ready again", || {
        let nodes = place.json(&["node", "ls"]);
        let ready = nodes.as_array().unwrap().iter().any(|node| {
            node["name"] == "new-1" && node["state"] == "ready" && node["agent_version"] != ""
        });
        let page = stdout(&page());
        if ready && page.ends_with("new-1") { Ok(()) } else { Err(format!("{nodes} {page}")) }
    });
    assert_eq!(place.node.run("docker ps -q --no-trunc"), containers);
}

fn again_is_nothing(place: &Place, id: &str) {
    let output = place.add(&[]).output().unwrap();
    assert!(stderr(&output).contains("is the node new-1 already"), "{}", stderr(&output));
    // By hand as well: the script, with nothing to tell it.
    let script = stdout(&place.knit(&["node", "script"]).output().unwrap());
    place.node.feed("cat >/root/join.sh", &script);
    let told = place.node.try_run("sh /root/join.sh 2>&1", "\n\n");
    assert!(told.status.success(), "{}", stdout(&told));
    assert!(stdout(&told).ends_with(&format!("node={id}")), "{}", stdout(&told));
    let refused = place.node.try_run("sh /root/join.sh 2>&1", "another secret\n\n");
    assert!(stdout(&refused).contains("has another mesh secret"), "{}", stdout(&refused));
}

fn who_is_not_root_there_takes_sudo_without_a_password(place: &Place) {
    place
        .node
        .run("useradd --create-home ops && cp -r /root/.ssh ~ops/ && chown -R ops: ~ops/.ssh");
    let add = || place.knit(&["node", "add", &format!("ops@{NODE_IP}")]).output().unwrap();
    let told = stderr(&add());
    assert!(told.contains("sudo wants a password") && told.contains("NOPASSWD"), "{told}");
    place.node.run("echo 'ops ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ops");
    let told = stderr(&add());
    assert!(told.contains("is the node new-1 already"), "{told}");
}
