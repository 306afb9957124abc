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
        Self::run(None).await
    }

    /// One that wants this password of user `ci`.
    pub(crate) async fn start_private(password: &str) -> Self {
        Self::run(Some(password)).await
    }

    async fn run(password: Option<&str>) -> Self {
        let dir = TempDir::new();
        let config = dir.path().join("config.json");
        // YAML reads JSON.
        let mut text = json!({
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": dir.path().join("images")}},
            "http": {"addr": REGISTRY},
        });
        if let Some(password) = password {
            let users = dir.path().join("users");
            std::fs::write(&users, format!("ci:{}\n", bcrypt(password))).unwrap();
            text["auth"] = json!({"htpasswd": {"realm": "tests", "path": users}});
        }
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

/// As `htpasswd -B` writes it: the C library knows bcrypt.
fn bcrypt(password: &str) -> String {
    let script = "print crypt($ARGV[0], '$2y$05$abcdefghijklmnopqrstuu')";
    let output = Command::new("perl").args(["-e", script, password]).output().unwrap();
    let hash = String::from_utf8(output.stdout).unwrap();
    assert!(hash.starts_with("$2y$"), "{hash}");
    hash
}
