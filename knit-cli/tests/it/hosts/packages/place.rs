//! Three booted hosts, and what an administrator does there.

use std::net::IpAddr;
use std::path::Path;
use std::process::Output;
use std::thread;

use serde_json::json;

use super::built::Built;
use crate::support::debian::Host;
use crate::support::{IMAGE, Laptop, image_tar, stderr, stdout, wait_until};

/// Nobody is there to be asked about a file that both sides changed.
const APT: &str = "DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends \
                   -o Dpkg::Options::=--force-confold";
/// The server's host is a node as well.
pub(super) const ON_FIRST: [&str; 4] = ["knit", "knit-agent", "knit-server", "meshctl"];
pub(super) const ON_OTHERS: [&str; 2] = ["knit-agent", "meshctl"];

pub(super) struct Place {
    pub(super) hosts: [Host; 3],
    laptop: Laptop,
}

/// Boots a host that sees the packages, whether they are built by then or not.
pub(super) fn boot(laptop: &Laptop, number: u8) -> Host {
    let dirs =
        [Built::Old, Built::New].map(|built| (built.dir(), format!("/mnt/{}", built.name())));
    let binds: Vec<(&Path, &str)> =
        dirs.iter().map(|(dir, to)| (dir.as_path(), to.as_str())).collect();
    laptop.boot(number, &binds)
}

/// Runs apt-get, which says little of what became of services; its words.
#[track_caller]
pub(super) fn apt(host: &Host, arguments: &str) -> String {
    let output = host.try_run(&format!("{APT} {arguments} 2>&1 </dev/null"), "");
    let told = stdout(&output);
    assert!(output.status.success(), "apt-get {arguments}: {told}");
    told
}

/// Installs these packages, or brings them to this version.
#[track_caller]
pub(super) fn install(host: &Host, built: Built, packages: &[&str]) -> String {
    let file = |package: &&str| format!(" /mnt/{}/{package}_*.deb", built.name());
    let told = apt(host, &format!("install{}", packages.iter().map(file).collect::<String>()));
    for package in packages {
        let version = host.run(&format!("dpkg-query -W -f '${{Version}}' {package}"));
        assert_eq!(version, built.version(), "{package}");
    }
    told
}

/// The daemons of a node run the programs of this directory, and units in /etc name no other.
#[track_caller]
fn runs_from(host: &Host, directory: &str) {
    for (unit, program) in [("wg-mesh", "meshctl"), ("knit-agent", "knit-agent")] {
        let exe = format!("readlink /proc/$(systemctl show -p MainPID --value {unit})/exe");
        assert_eq!(host.run(&exe), format!("{directory}/{program}"), "{}", host.log());
        assert_eq!(host.run(&format!("systemctl is-enabled {unit}")), "enabled");
    }
    if directory == "/usr/bin" {
        let left = "find /usr/local/bin -type f; find -L /etc/systemd/system -type l -name 'knit*' -o -type l -name 'wg-mesh*'; \
                    find /etc/systemd/system -maxdepth 1 -name knit-agent.service -o -name wg-mesh.service";
        assert_eq!(host.run(left), "");
    }
}

impl Place {
    /// The hosts boot while the first packages are built.
    pub(super) fn new() -> Self {
        let laptop = Laptop::new("deb");
        let hosts = thread::scope(|scope| {
            scope.spawn(|| Built::Old.build());
            [1, 2, 3]
                .map(|number| {
                    scope.spawn({
                        let laptop = &laptop;
                        move || boot(laptop, number)
                    })
                })
                .map(|host| host.join().unwrap())
        });
        Self { hosts, laptop }
    }

    /// A mesh, a cluster in it, and the server's host as its first node.
    pub(super) fn configure_first(&self) {
        let first = &self.hosts[0];
        first.run("meshctl init >/etc/knit/mesh.secret && systemctl restart wg-mesh");
        first.run("knit-server init >/dev/null && systemctl restart knit-server");
        wait_until("the server to be well", || {
            let listed = first.try_run("knit node ls", "");
            if listed.status.success() { Ok(()) } else { Err(first.log()) }
        });
        first.run("knit node token | knit-agent join && systemctl restart knit-agent");
    }

    fn mesh_secret(&self) -> String {
        self.hosts[0].run("cat /etc/knit/mesh.secret")
    }

    /// What a host takes that has the packages.
    pub(super) fn join_by_hand(&self, host: &Host) {
        let secret = self.mesh_secret();
        host.feed("cat >/etc/knit/mesh.secret && systemctl restart wg-mesh", &secret);
        assert_eq!(host.run("stat -c %a /etc/knit/mesh.secret"), "600");
        let token = self.hosts[0].run("knit node token");
        host.feed("knit-agent join && systemctl restart knit-agent", &token);
    }

    /// What a bare one takes; and programs that came without packages give way to those of packages,
    /// whoever installs them.
    pub(super) fn join_by_ssh(&self, host: &Host) {
        self.what_is_missing_is_not_installed(host);
        let programs = Path::new(env!("CARGO_BIN_EXE_knit")).parent().unwrap();
        self.add(host, "--binaries", programs);
        runs_from(host, "/usr/local/bin");
        let told = install(host, Built::Old, &ON_OTHERS);
        assert!(told.contains("takes the place of what was in /usr/local/bin"), "{told}");
        runs_from(host, "/usr/bin");
        self.add(host, "--binaries", programs);
        runs_from(host, "/usr/local/bin");
        self.add(host, "--debs", &Built::Old.dir());
        runs_from(host, "/usr/bin");
    }

    /// Neither Docker nor what a package needs beside it, where that was forbidden.
    fn what_is_missing_is_not_installed(&self, host: &Host) {
        let told = || {
            let output = self.try_add(host, "--debs", &Built::Old.dir(), &["--no-install"]);
            assert!(!output.status.success());
            stderr(&output)
        };
        let missing = told();
        assert!(missing.contains("missing: docker.io nftables iptables"), "{missing}");
        let tools = "/usr/local/bin/docker /usr/local/bin/nft /usr/local/bin/iptables";
        host.run(&format!("for tool in {tools}; do cp /bin/true $tool; done"));
        let needed = told();
        let first = needed.split_once("the packages need others: ").unwrap_or_default().1;
        assert!(first.contains("docker.io") && first.contains("nftables"), "{needed}");
        host.run(&format!("rm {tools}"));
        assert!(!host.try_run("dpkg-query -W knit-agent docker.io", "").status.success());
    }

    #[track_caller]
    fn add(&self, host: &Host, what: &str, from: &Path) {
        let added = self.try_add(host, what, from, &[]);
        assert!(added.status.success(), "{}\n{}", stderr(&added), host.log());
    }

    fn try_add(&self, host: &Host, what: &str, from: &Path, more: &[&str]) -> Output {
        let file = self.laptop.dir.path().join("mesh.secret");
        std::fs::write(&file, self.mesh_secret()).unwrap();
        let mut command = self.laptop.knit(&["node", "add", &format!("root@{}", host.address)]);
        command.arg(what).arg(from).args(more).arg("--mesh-secret-file").arg(&file);
        command.output().unwrap()
    }

    /// All of them are ready and talk to the server; their addresses in the mesh, by number.
    pub(super) fn wait_for_nodes(&self) -> [IpAddr; 3] {
        wait_until("three nodes that are ready", || {
            let nodes = self.laptop.try_json(&["node", "ls"])?;
            let ready = |number: u8| {
                let name = format!("bare-{number}");
                let node = nodes.as_array()?.iter().find(|node| node["name"] == *name)?;
                (node["state"] == "ready").then(|| node["mesh_ip"].as_str()?.parse().ok())?
            };
            let all = [ready(1), ready(2), ready(3)];
            let [Some(first), Some(second), Some(third)] = all else {
                return Err(format!("{nodes}\n{}", self.hosts[0].log()));
            };
            Ok([first, second, third])
        })
    }

    /// A page on every host, and an instance with data on one.
    pub(super) fn deploy(&self, port: u16) {
        let tar = image_tar(self.laptop.dir.path());
        for host in &self.hosts {
            host.put(&tar, "/var/tmp/image.tar");
            host.run(&format!(
                "docker import -c 'ENV PATH=/bin' /var/tmp/image.tar {IMAGE} >/dev/null"
            ));
        }
        let page = json!({
            "name": "page",
            "image": IMAGE,
            "replicas": 3,
            "command": ["page-server"],
            "ports": [{ "container_port": 80, "host_port": port }],
            "templates": [{ "destination": "/www/index.html", "content": "{{node.name}}" }],
        });
        let kept = json!({
            "name": "kept",
            "image": IMAGE,
            "command": ["sleep", "9999"],
            "volumes": [{ "name": "kept", "path": "/data" }],
        });
        for manifest in [page, kept] {
            let file = self.laptop.dir.path().join("manifest.json");
            std::fs::write(&file, manifest.to_string()).unwrap();
            let output = self.laptop.knit(&["deploy", "-f"]).arg(&file).output().unwrap();
            assert!(output.status.success(), "{}\n{}", stderr(&output), self.hosts[0].log());
        }
    }
}
