//! A nats-server of the test's own, on a port that it chose itself.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running nats-server with JetStream; killed when dropped.
pub(crate) struct NatsServer {
    dir: tempfile::TempDir,
    child: Child,
    pub(crate) port: u16,
}

impl NatsServer {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (child, port) = spawn(dir.path(), -1);
        Self { dir, child, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends the process the hard way and starts it again on the same port and store.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        let (child, port) = spawn(self.dir.path(), i32::from(self.port));
        (self.child, self.port) = (child, port);
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("nats-server ends");
        self.child.wait().expect("nats-server ended");
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(dir: &Path, port: i32) -> (Child, u16) {
    let ports = dir.join(format!("ports-{}", fresh()));
    std::fs::create_dir(&ports).expect("a directory");
    let config = serde_json::json!({
        "host": "127.0.0.1", "port": port, "ports_file_dir": ports,
        "jetstream": {"store_dir": dir.join("store")},
    });
    let path = dir.join("nats.json");
    std::fs::write(&path, config.to_string()).expect("the configuration");
    let child = Command::new("nats-server")
        .arg("-c")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server (Debian's package nats-server)");
    (child, listening_port(&ports))
}

fn listening_port(ports: &Path) -> u16 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let file = std::fs::read_dir(ports).expect("a directory").flatten().next();
        let text = file.and_then(|file| std::fs::read_to_string(file.path()).ok());
        let json = text.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        if let Some(port) =
            json.as_ref().and_then(|json| json["nats"][0].as_str()?.rsplit(':').next())
        {
            return port.parse().expect("a port");
        }
        assert!(Instant::now() < deadline, "nats-server did not start");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn fresh() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
