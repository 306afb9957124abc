//! Debian hosts that boot: systemd as PID 1 in systemd-nspawn, on a network of their own.
//!
//! ```text
//! laptop, a namespace [eth0 10.88.0.254]──bridge──[eth0 10.88.0.N] host N, a booted Debian
//! ```
//!
//! What a host writes goes to memory and is gone with it.

mod cgroup;

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sched::{CloneFlags, setns};

use super::{stderr, stdout, wait_until};

/// Where the Debian is that all hosts begin as; it is made once on a machine.
const ROOT: &str = "/var/cache/knit-test/bookworm";

/// A namespace with a bridge, where commands run as on a laptop.
pub(crate) struct Lan {
    prefix: String,
}

/// A booted host.
pub(crate) struct Host {
    pub(crate) address: String,
    pub(crate) netns: String,
    leader: String,
    nspawn: Child,
}

impl Lan {
    pub(crate) fn new(name: &str) -> Self {
        let lan = Self { prefix: format!("knit-{name}{}", std::process::id()) };
        let netns = lan.prefix.as_str();
        ip(&["netns", "add", netns]);
        for line in [
            "link set lo up",
            "link add br0 type bridge",
            "link set br0 up",
            "addr add 10.88.0.254/24 dev br0",
        ] {
            ip(&[["-n", netns].as_slice(), &line.split(' ').collect::<Vec<_>>()].concat());
        }
        lan
    }

    /// A command of the laptop.
    pub(crate) fn command(&self, program: &str) -> Command {
        let path = format!("/run/netns/{}", self.prefix);
        let netns = std::fs::File::open(path).unwrap();
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        #[expect(unsafe_code, reason = "between fork and exec only one system call is made")]
        // SAFETY: setns is async-signal-safe, nothing is allocated, no lock is taken.
        unsafe {
            command.pre_exec(move || setns(&netns, CloneFlags::CLONE_NEWNET).map_err(Into::into));
        }
        command
    }

    /// Boots host N, whom root may enter with this key.
    pub(crate) fn boot(&self, number: u8, public_key: &Path, binds: &[(&Path, &str)]) -> Host {
        let netns = format!("{}-{number}", self.prefix);
        let (port, address) = (format!("port{number}"), format!("10.88.0.{number}"));
        ip(&["netns", "add", &netns]);
        ip(&["link", "add", "eth0", "netns", &netns, "type", "veth", "peer", "name", &port]
            .iter()
            .copied()
            .chain(["netns", &self.prefix])
            .collect::<Vec<_>>());
        ip(&["-n", &self.prefix, "link", "set", &port, "master", "br0", "up"]);
        ip(&["-n", &netns, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        for device in ["lo", "eth0"] {
            ip(&["-n", &netns, "link", "set", device, "up"]);
        }
        ip(&["-n", &netns, "route", "add", "default", "via", "10.88.0.254"]);
        let mut nspawn = cgroup::command(&netns, "systemd-nspawn");
        nspawn
            .args(["--boot", "--directory", ROOT, "--volatile=overlay"])
            // Docker cannot lay its layers on an overlay.
            .args(["--tmpfs=/var/lib/docker", "--tmpfs=/var/lib/containerd"])
            .args(["--machine", &netns, "--hostname", &format!("bare-{number}")])
            .arg(format!("--network-namespace-path=/run/netns/{netns}"))
            .args(["--register=no", "--keep-unit", "--console=pipe", "--capability=all"])
            .arg("--system-call-filter=@keyring bpf")
            .args(binds.iter().map(|(from, to)| format!("--bind-ro={}:{to}", from.display())))
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let nspawn = nspawn.spawn().expect("systemd-nspawn (Debian's package systemd-container)");
        let leader = wait_until("the host's PID 1", || {
            let mut found = Command::new("pgrep");
            let found = found.args(["-P", &nspawn.id().to_string(), "-x", "systemd"]);
            let found = output(found);
            if found.is_empty() { Err("none".to_owned()) } else { Ok(found) }
        });
        let host = Host { address, netns, leader, nspawn };
        wait_until("the host to have booted", || {
            let state = stdout(&host.try_run("systemctl is-system-running", ""));
            if state == "running" { Ok(()) } else { Err(state) }
        });
        let key = std::fs::read_to_string(public_key).unwrap();
        host.feed("mkdir -p /root/.ssh && cat >/root/.ssh/authorized_keys", &key);
        host
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.prefix]);
    }
}

impl Host {
    /// A shell's line on the host, whatever becomes of it.
    pub(crate) fn try_run(&self, line: &str, input: &str) -> Output {
        let mut child = Command::new("timeout")
            .args(["90", "nsenter", "-t", &self.leader, "-m", "-u", "-i", "-n", "-p", "-C", "--"])
            .args(["sh", "-c", line])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// One that must succeed; its standard output.
    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> String {
        self.feed(line, "")
    }

    /// One that reads `input` and must succeed; its standard output.
    #[track_caller]
    pub(crate) fn feed(&self, line: &str, input: &str) -> String {
        let output = self.try_run(line, input);
        assert!(output.status.success(), "{line}: {}\n{}", stderr(&output), self.log());
        stdout(&output)
    }

    /// What its daemons said last.
    pub(crate) fn log(&self) -> String {
        let line = "systemctl --failed --no-pager; journalctl --no-pager -o cat -n 40 \
                    -u wg-mesh -u knit-agent -u knit-server";
        stdout(&self.try_run(line, ""))
    }

    /// Copies a file of this machine to it.
    pub(crate) fn put(&self, from: &Path, to: &str) {
        let root = PathBuf::from(format!("/proc/{}/root{to}", self.leader));
        std::fs::copy(from, root).unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("nsenter")
            .args(["-t", &self.leader, "-a", "systemctl", "poweroff", "-ff"])
            .stderr(Stdio::null())
            .status();
        let _ = self.nspawn.wait();
        cgroup::remove(&self.netns);
        ip(&["netns", "del", &self.netns]);
    }
}

/// Makes the Debian unless it is there.
pub(crate) fn prepare() {
    assert!(nix::unistd::geteuid().is_root(), "these tests boot hosts: run them as root");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/debian-root");
    let made = Command::new(script).arg(ROOT).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(
        output.status.success() || std::thread::panicking(),
        "ip {args:?}: {}",
        stderr(&output)
    );
}

fn output(command: &mut Command) -> String {
    stdout(&command.output().unwrap())
}
