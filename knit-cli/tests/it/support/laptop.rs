//! A laptop that is in no mesh and reaches Debian hosts by ssh alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;
use tempfile::TempDir;

use super::debian::{self, Host, Lan};
use super::{ssh_client, stderr};

/// With a key that the hosts let in, and nothing of the user's.
pub(crate) struct Laptop {
    lan: Lan,
    ssh: PathBuf,
    /// `KNIT_SERVER`.
    server: String,
    known_hosts: Mutex<()>,
    pub(crate) dir: TempDir,
}

impl Laptop {
    /// The server that its `knit` asks is on host 1.
    pub(crate) fn new(name: &str) -> Self {
        debian::prepare();
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(dir.path().join("user"))
            .status();
        assert!(made.unwrap().success());
        let ssh = ssh_client(dir.path(), "known_hosts");
        let server = "ssh://root@10.88.0.1".to_owned();
        Self { lan: Lan::new(name), ssh, server, known_hosts: Mutex::new(()), dir }
    }

    /// Boots host N, whose key it knows from then on.
    pub(crate) fn boot(&self, number: u8, binds: &[(&Path, &str)]) -> Host {
        let host = self.lan.boot(number, &self.dir.path().join("user.pub"), binds);
        let key = host.run("cat /etc/ssh/ssh_host_ed25519_key.pub");
        let _alone = self.known_hosts.lock().unwrap();
        let known = self.dir.path().join("known_hosts");
        let before = std::fs::read_to_string(&known).unwrap_or_default();
        std::fs::write(&known, format!("{before}{} {key}\n", host.address)).unwrap();
        host
    }

    pub(crate) fn knit(&self, arguments: &[&str]) -> Command {
        let mut command = self.lan.command(env!("CARGO_BIN_EXE_knit"));
        command
            .args(arguments)
            .env("HOME", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .env("KNIT_SSH", &self.ssh)
            .env("KNIT_SERVER", &self.server)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// What `knit` shows as JSON, or what it says.
    pub(crate) fn try_json(&self, arguments: &[&str]) -> Result<Value, String> {
        let output = self.knit(arguments).args(["-o", "json"]).output();
        let output = output.map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(stderr(&output));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
    }
}
