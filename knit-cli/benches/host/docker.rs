//! Docker driven directly, by its API: what nobody who uses Docker can be faster than.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

pub(crate) const IMAGE: &str = "knit-bench:1";
/// The network that Knit's own containers join.
const NETWORK: &str = "knit";
const LABEL: &str = "bench";

/// Ends when it is asked to.
pub(crate) fn command() -> Value {
    json!(["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do busybox sleep 1000 & wait; done"])
}

#[derive(Clone)]
pub(crate) struct Docker {
    socket: String,
}

impl Docker {
    pub(crate) fn of_this_node() -> Self {
        let socket = std::env::var("DOCKER_HOST").unwrap();
        Self { socket: socket.trim_start_matches("unix://").to_owned() }
    }

    /// busybox, with a shell.
    pub(crate) fn import_image() {
        let root = std::env::temp_dir().join(format!("knit-bench-{}", std::process::id()));
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
        let mut tar = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .args(["-c", "."])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let imported = Command::new("docker")
            .args(["import", "-", IMAGE])
            .stdin(tar.stdout.take().unwrap())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(tar.wait().unwrap().success() && imported.success());
        std::fs::remove_dir_all(root).unwrap();
    }

    /// Makes and starts one container; how long that took.
    pub(crate) async fn run_and_remove(&self, name: &str) -> Duration {
        let start = Instant::now();
        self.run(name).await;
        let took = start.elapsed();
        self.clear().await;
        took
    }

    /// The same for many, so many at a time.
    pub(crate) async fn run_many(&self, name: &str, count: u32, workers: usize) -> Duration {
        let permits = Arc::new(Semaphore::new(workers));
        let start = Instant::now();
        let running = (0..count).map(|n| {
            let (docker, permits, name) =
                (self.clone(), Arc::clone(&permits), format!("{name}-{n}"));
            async move {
                let _permit = permits.acquire().await.unwrap();
                docker.run(&name).await;
            }
        });
        futures_util::future::join_all(running).await;
        let took = start.elapsed();
        self.clear().await;
        took
    }

    async fn run(&self, name: &str) {
        let body = json!({
            "Image": IMAGE, "Entrypoint": command(), "Labels": {LABEL: "1"},
            "HostConfig": {"NetworkMode": NETWORK},
        });
        let made = self.ask("POST", &format!("/containers/create?name=bench-{name}"), &body).await;
        let id = made["Id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        let started = self.ask("POST", &format!("/containers/{id}/start"), &Value::Null).await;
        assert_eq!(started, Value::Null);
    }

    async fn clear(&self) {
        let filter = format!("%7B%22label%22:%5B%22{LABEL}%22%5D%7D");
        let path = format!("/containers/json?all=1&filters={filter}");
        let listed = self.ask("GET", &path, &Value::Null).await;
        for container in listed.as_array().unwrap() {
            let path = format!("/containers/{}?force=1", container["Id"].as_str().unwrap());
            self.ask("DELETE", &path, &Value::Null).await;
        }
    }

    /// When Docker was asked to make each container that carries a deployment's label, in
    /// milliseconds since 1970, by the container's name.
    pub(crate) async fn created(&self, deployment: &str) -> BTreeMap<String, u64> {
        let filter = format!("%7B%22label%22:%5B%22knit.deployment={deployment}%22%5D%7D");
        let path = format!("/containers/json?all=1&filters={filter}");
        let mut created = BTreeMap::new();
        for container in self.ask("GET", &path, &Value::Null).await.as_array().unwrap() {
            let id = container["Id"].as_str().unwrap();
            let shown = self.ask("GET", &format!("/containers/{id}/json"), &Value::Null).await;
            // It may have gone meanwhile.
            let Some(at) = shown["Created"].as_str() else { continue };
            let at: jiff::Timestamp = at.parse().unwrap();
            let at = u64::try_from(at.as_millisecond()).unwrap();
            created.insert(shown["Name"].as_str().unwrap().to_owned(), at);
        }
        created
    }

    /// One request on a connection of its own. HTTP 1.0: the answer is not cut into chunks.
    async fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8(answer).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
        serde_json::from_str(body).unwrap_or_default()
    }
}
