//! Hosts as network namespaces on one bridge, and daemons on them. All ends with its owner.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use knit_link::mesh::MeshClient;
use nix::sched::{CloneFlags, setns};

pub(crate) const MESHCTL: &str = env!("CARGO_BIN_EXE_meshctl");

/// Held by tests that measure time: a tunnel's second must not be spent on another such test.
pub(crate) static CORE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A directory of its own for each test, removed with its owner.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("meshctl-{}", unique()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn unique() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Some hosts on one LAN, 192.168.77.1 and up, with the secret of one mesh.
pub(crate) struct Lan {
    id: String,
    pub(crate) scratch: Scratch,
    hosts: u8,
    /// Its routers, if hosts are behind any.
    routers: Vec<String>,
}

impl Lan {
    fn bare(hosts: u8) -> Self {
        Self { id: unique(), scratch: Scratch::new(), hosts, routers: Vec::new() }
    }

    /// Writes the secret and makes the bridge.
    fn prepare(&self) {
        let secret = format!("a secret of one test only {}", self.id);
        fs::write(self.secret_file(), secret).unwrap();
        fs::set_permissions(self.secret_file(), fs::Permissions::from_mode(0o600)).unwrap();
        let hub = self.hub();
        ip(&format!("netns add {hub}"));
        ip(&format!("-n {hub} link add br0 type bridge"));
        ip(&format!("-n {hub} link set br0 up"));
    }

    pub(crate) fn new(hosts: u8) -> Self {
        let lan = Self::bare(hosts);
        lan.prepare();
        let hub = lan.hub();
        for host in 1..=hosts {
            let ns = lan.namespace(host);
            ip(&format!("netns add {ns}"));
            ip(&format!("link add eth0 netns {ns} type veth peer name p{host} netns {hub}"));
            ip(&format!("-n {hub} link set p{host} master br0 up"));
            ip(&format!("-n {ns} link set lo up"));
            ip(&format!("-n {ns} addr add 192.168.77.{host}/24 dev eth0"));
            ip(&format!("-n {ns} link set eth0 up"));
        }
        lan
    }

    /// Some hosts, each alone behind a router of its own, and then some with a public address:
    /// `203.0.113.HOST`. A router's rules are masquerading by `masquerade`, and no way in.
    pub(crate) fn behind_routers(hidden: u8, public: u8, masquerade: &str) -> Self {
        let mut lan = Self::bare(hidden + public);
        lan.prepare();
        let hub = lan.hub();
        for host in 1..=hidden + public {
            let ns = lan.namespace(host);
            ip(&format!("netns add {ns}"));
            ip(&format!("-n {ns} link set lo up"));
            let outside = if host > hidden {
                ns
            } else {
                let router = format!("{ns}-r");
                lan.routers.push(router.clone());
                ip(&format!("netns add {router}"));
                ip(&format!("link add eth0 netns {ns} type veth peer name lan0 netns {router}"));
                ip(&format!("-n {router} addr add 192.168.{host}.1/24 dev lan0"));
                ip(&format!("-n {router} link set lan0 up"));
                ip(&format!("-n {ns} addr add 192.168.{host}.2/24 dev eth0"));
                ip(&format!("-n {ns} link set eth0 up"));
                ip(&format!("-n {ns} route add default via 192.168.{host}.1"));
                router
            };
            let port = if host > hidden { "eth0" } else { "wan0" };
            ip(&format!("link add {port} netns {outside} type veth peer name p{host} netns {hub}"));
            ip(&format!("-n {hub} link set p{host} master br0 up"));
            ip(&format!("-n {outside} addr add 203.0.113.{host}/24 dev {port}"));
            ip(&format!("-n {outside} link set {port} up"));
            if host <= hidden {
                let rules = format!(
                    "echo 1 > /proc/sys/net/ipv4/ip_forward; nft -f - <<'.'\n\
                     table ip r {{\n\
                     chain in {{ type filter hook input priority 0; iifname wan0 drop; }}\n\
                     chain forward {{ type filter hook forward priority 0; iifname wan0 ct state new drop; }}\n\
                     chain post {{ type nat hook postrouting priority 100; oifname wan0 {masquerade}; }}\n\
                     }}\n.\n"
                );
                lan.shell(&outside, &rules);
            }
        }
        lan
    }

    /// Has a router let nothing of these rules' matter through; an empty text lifts that.
    pub(crate) fn router_blocks(&self, host: u8, matter: &str) {
        let table = "nft add table ip b; nft flush table ip b; nft delete table ip b";
        let rules = if matter.is_empty() {
            table.to_owned()
        } else {
            format!(
                "{table}; nft 'table ip b {{ chain f {{ type filter hook forward priority -1; {matter} drop; }}; }}'"
            )
        };
        self.shell(&format!("{}-r", self.namespace(host)), &rules);
    }

    pub(crate) fn shell(&self, namespace: &str, script: &str) {
        let mut command = Command::new("ip");
        let output = command.args(["netns", "exec", namespace, "sh", "-ec", script]).output();
        let output = output.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {script}: {error}", self.id);
    }

    pub(crate) fn secret_file(&self) -> PathBuf {
        self.scratch.path("secret")
    }

    pub(crate) fn namespace(&self, host: u8) -> String {
        format!("mc{}-{host}", self.id)
    }

    fn hub(&self) -> String {
        format!("mc{}-hub", self.id)
    }

    pub(crate) fn state_dir(&self, host: u8) -> PathBuf {
        self.scratch.path(&format!("state{host}"))
    }

    pub(crate) fn socket(&self, host: u8) -> PathBuf {
        self.scratch.path(&format!("{host}.sock"))
    }

    /// Starts a daemon on a host, with further flags.
    pub(crate) fn join(&self, host: u8, flags: &[&str]) -> Daemon {
        self.join_at(host, &self.socket(host), flags)
    }

    pub(crate) fn join_at(&self, host: u8, socket: &Path, flags: &[&str]) -> Daemon {
        let log = self.scratch.path(&format!("{host}.log"));
        let file = self.secret_file();
        let secret = ["--secret-file".as_ref(), file.as_os_str()];
        let child = self
            .command(host, MESHCTL)
            .args(["join", "--interface", "wg0", "--hostname", &format!("host{host}")])
            .args(if flags.contains(&"--secret-file") { &[][..] } else { &secret })
            .arg("--state-dir")
            .arg(self.state_dir(host))
            .arg("--socket-path")
            .arg(socket)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        Daemon { child, log, client: MeshClient::new(socket) }
    }

    /// A command that runs on a host.
    pub(crate) fn command(&self, host: u8, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), program]);
        for variable in ["WGMESH_SECRET", "WGMESH_SECRET_FILE", "WGMESH_SOCKET", "KNIT_SERVER"] {
            command.env_remove(variable);
        }
        command
    }

    /// The nftables rules of a host.
    pub(crate) fn rules(&self, host: u8) -> String {
        let output = self.command(host, "nft").args(["list", "ruleset"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn pings(&self, host: u8, to: &str) -> bool {
        let mut ping = self.command(host, "ping");
        let ping = ping.args(["-n", "-c", "1", "-W", "0.2", to]).stdout(Stdio::null());
        ping.stderr(Stdio::null()).status().unwrap().success()
    }

    /// What `ip -brief address show dev wg0` prints on a host; empty without the interface.
    pub(crate) fn mesh_interface(&self, host: u8) -> String {
        let mut ip = self.command(host, "ip");
        let output = ip.args(["-brief", "-4", "address", "show", "dev", "wg0"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `work` in a thread that lives on the host: the sockets it makes are the host's.
    pub(crate) fn on_host<R: Send>(&self, host: u8, work: impl FnOnce() -> R + Send) -> R {
        let path = Path::new("/var/run/netns").join(self.namespace(host));
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let hosts = (1..=self.hosts).map(|host| self.namespace(host));
        for namespace in hosts.chain(self.routers.clone()).chain([self.hub()]) {
            let _ = Command::new("ip").args(["netns", "del", &namespace]).status();
        }
    }
}

/// A running `meshctl join`. Dropping it kills it, and shows its log when the test fails.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    log: PathBuf,
    pub(crate) client: MeshClient,
}

impl Daemon {
    pub(crate) fn signal(&mut self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    /// Waits for the end; returns whether it was a good one.
    pub(crate) fn ends(&mut self) -> bool {
        eventually("the daemon ends", || self.child.try_wait().unwrap()).success()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Its mesh address, as soon as its socket answers.
    pub(crate) async fn mesh_ip(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match self.client.status().await {
                Ok(status) => return status.mesh_ip,
                Err(error) if Instant::now() > deadline => {
                    panic!("no status: {error}\n{}", self.log())
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = format!("--- {}\n{}", self.log.display(), self.log());
            knit_runtime::terminal::eprintln(&text);
        }
    }
}

/// Asks again until there is an answer; fails after ten seconds.
#[track_caller]
pub(crate) fn eventually<R>(what: &str, mut ask: impl FnMut() -> Option<R>) -> R {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
}

pub(crate) fn addr(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}
