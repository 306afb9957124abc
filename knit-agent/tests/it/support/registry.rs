//! A real registry in the test's namespace.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::{TempDir, until};

/// In the test's own namespace nobody else has the port; Docker trusts a registry on loopback.
pub(crate) const REGISTRY: &str = "127.0.0.1:5000";

pub(crate) struct Registry {
    process: Child,
    _dir: TempDir,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let dir = TempDir::new();
        let config = dir.path().join("config.json");
        // YAML reads JSON.
        let text = json!({
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": dir.path().join("images")}},
            "http": {"addr": REGISTRY},
        });
        std::fs::write(&config, text.to_string()).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs Debian's package docker-registry");
        let registry = Self { process, _dir: dir };
        until("the registry listens", || std::net::TcpStream::connect(REGISTRY).is_ok()).await;
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
