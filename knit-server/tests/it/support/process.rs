//! The real program on a state directory, a loopback address and ports of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use knit_link::bus::{NatsBus, NatsOptions};
use knit_link::http::ApiClient;
use knit_rpc::api::RegisterResponse;
use knit_rpc::subject;
use knit_server::identity::Identity;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;

use super::agent::Disk;
use super::eventually;

pub(crate) const PORT: u16 = 7400;
pub(crate) const NATS_PORT: u16 = 7422;

/// A running program; killed when dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) state: PathBuf,
    pub(crate) address: Ipv4Addr,
    monitor: u16,
    pub(crate) api: ApiClient,
}

/// An address of loopback that no other test uses.
pub(crate) fn own_address() -> Ipv4Addr {
    static COUNTER: AtomicU16 = AtomicU16::new(1);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let [high, low] = u16::try_from(std::process::id() % 65_000).expect("it fits").to_be_bytes();
    Ipv4Addr::new(127, high.max(1), low, u8::try_from(count % 250 + 1).expect("it fits"))
}

/// A port of 127.0.0.1 that is free now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Program {
    /// Starts the program and waits until it is healthy.
    pub(crate) async fn start(state: &Path) -> Self {
        let program = Self::spawn(state, own_address(), free_port());
        program.until_healthy().await;
        program
    }

    /// Starts it again where it was.
    pub(crate) async fn start_again(self) -> Self {
        let (state, address, monitor) = (self.state.clone(), self.address, self.monitor);
        drop(self);
        let program = Self::spawn(&state, address, monitor);
        program.until_healthy().await;
        program
    }

    fn spawn(state: &Path, address: Ipv4Addr, monitor: u16) -> Self {
        Self::spawn_with(state, address, monitor, &["--nats-monitor-port", &monitor.to_string()])
    }

    /// Starts the program on a NATS server that is not its child.
    pub(crate) fn with_nats(state: &Path, address: Ipv4Addr, url: &str) -> Self {
        Self::spawn_with(state, address, 0, &["--nats-url", url])
    }

    pub(crate) fn spawn_with(
        state: &Path,
        address: Ipv4Addr,
        monitor: u16,
        extra: &[&str],
    ) -> Self {
        let socket = state.join("api.sock");
        let child = command(state)
            .args(["--listen", &address.to_string()])
            .args(extra)
            .spawn()
            .expect("the program starts");
        let api = ApiClient::on_socket(&socket).expect("a client");
        Self { child, state: state.to_owned(), address, monitor, api }
    }

    pub(crate) async fn until_healthy(&self) {
        let url = format!("http://{}:{PORT}/healthz", self.address);
        eventually("the program is healthy", || async {
            let response = reqwest::get(&url).await.ok()?;
            response.status().is_success().then_some(())
        })
        .await;
    }

    /// The process id of its nats-server.
    pub(crate) fn nats_pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.state.join("nats/nats-server.pid")).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }

    /// Where its NATS listens.
    pub(crate) fn nats(&self) -> SocketAddr {
        SocketAddr::from((self.address, NATS_PORT))
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it ends");
        self.child.wait().expect("it ended");
    }

    /// Asks it to stop.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        kill(pid, Signal::SIGTERM).expect("it gets the signal");
        eventually("the program stops", || {
            let status = self.child.try_wait().expect("it is ours");
            async move { status }
        })
        .await
    }

    /// The cluster's keys.
    pub(crate) fn identity(&self) -> Identity {
        let path = self.state.join("identity.json");
        Identity::load_or_create(&path, &self.state.join("knit.db")).expect("an identity")
    }

    /// A node's own connection to NATS.
    pub(crate) async fn bus(&self, disk: &Disk) -> (NatsBus, RegisterResponse) {
        let response = disk.register(&self.api).await.expect("registered");
        let options = NatsOptions {
            name: disk.name.clone(),
            url: response.nats_url.clone(),
            local_address: None,
            inbox_prefix: Some(subject::inbox_prefix(&disk.node)),
            nkey_seed: disk.key().seed().expect("a seed"),
            jwt: watch::channel(response.user_jwt.clone()).1,
            ca: None,
        };
        (NatsBus::connect(options).await.expect("a bus"), response)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        // It dies with its parent, at once but not instantly; the next one needs its port.
        if let Some(pid) = self.nats_pid() {
            for _ in 0..500 {
                if kill(pid, None).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// What a service manager would be told, until nothing comes for a while.
pub(crate) struct Told {
    socket: std::os::unix::net::UnixDatagram,
    pub(crate) path: PathBuf,
}

impl Told {
    pub(crate) fn at(path: &Path) -> Self {
        let socket = std::os::unix::net::UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        Self { socket, path: path.to_owned() }
    }

    /// Waits for a message with these words.
    pub(crate) fn until(&self, words: &str) -> String {
        let mut bytes = [0; 4096];
        loop {
            let count = self.socket.recv(&mut bytes).unwrap_or_else(|_| panic!("never {words}"));
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            if text.contains(words) {
                return text;
            }
        }
    }
}

/// The program without a sidecar.
pub(crate) fn command(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_knit-server"));
    command
        .args(["run", "--admit", "all"])
        .arg("--socket")
        .arg(state.join("api.sock"))
        .args(["--mesh-socket", "/nonexistent/mesh.sock", "--state-dir"])
        .arg(state)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
