//! The server's REST API, asked on its socket, and what tests wait for in its answers.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};

use super::{Cluster, wait_until};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// The state of a rollout that is over.
const ENDS: [&str; 4] = ["succeeded", "rolled-back", "failed", "superseded"];

impl Cluster {
    /// Runs `work` as a program of that host would reach the network.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        node: u8,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        thread::spawn(enter(self.netns(node), work)).join().unwrap()
    }

    /// Asks the server, whatever it answers; an error when it does not.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Answer, String> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        exchange(&self.api_socket(), method, path, &body)
            .map_err(|error| format!("{method} {path}: {error}"))
    }

    /// Asks for something that must be granted; its answer.
    #[track_caller]
    pub(crate) fn must(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(method, path, body).unwrap();
        let Answer { status, body } = answer;
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}");
        body
    }

    /// What the server shows, or why it does not.
    pub(crate) fn get(&self, path: &str) -> Result<Value, String> {
        let answer = self.ask("GET", path, &Value::Null)?;
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("{path}: {answer:?}")) }
    }

    /// Deploys without waiting; the revision.
    #[track_caller]
    pub(crate) fn submit(&self, manifest: &Value) -> u64 {
        self.must("POST", "/deployments", manifest)["revision"].as_u64().unwrap()
    }

    /// Waits until the newest rollout, of `revision` or a later one, is over; what became of it.
    #[track_caller]
    pub(crate) fn rollout_end(&self, name: &str, revision: u64) -> Value {
        let path = format!("/deployments/{name}/rollout");
        wait_until(&format!("the end of the rollout of {name} to revision {revision}"), || {
            let rollout = self.get(&path)?;
            let over = ENDS.iter().any(|end| rollout["state"] == *end);
            let right = rollout["revision"].as_u64() >= Some(revision);
            if over && right { Ok(rollout) } else { Err(rollout.to_string()) }
        })
    }

    /// Deploys, and waits until the rollout has succeeded.
    #[track_caller]
    pub(crate) fn roll_out(&self, manifest: &Value) -> Value {
        let revision = self.submit(manifest);
        let end = self.rollout_end(manifest["name"].as_str().unwrap(), revision);
        assert_eq!(end["state"], "succeeded", "{end}\nlogs:\n{}", self.logs());
        assert_eq!(end["revision"], revision, "{end}");
        end
    }

    /// One revision in the history.
    #[track_caller]
    pub(crate) fn revision(&self, name: &str, revision: u64) -> Value {
        let history = self.get(&format!("/deployments/{name}/history")).unwrap();
        let found = history.as_array().unwrap().iter().find(|one| one["revision"] == revision);
        found.cloned().unwrap_or_else(|| panic!("no revision {revision} in {history}"))
    }

    /// The wanted instances of a deployment, by slot.
    pub(crate) fn instances_of(&self, name: &str) -> Result<Vec<Value>, String> {
        let view = self.get(&format!("/deployments/{name}"))?;
        let all = view["instances"].as_array().cloned().unwrap_or_default();
        Ok(all.into_iter().filter(|instance| instance["wanted"] == true).collect())
    }

    /// Waits until so many instances of a deployment run and no others are left; they.
    #[track_caller]
    pub(crate) fn wait_running(&self, name: &str, count: usize) -> Vec<Value> {
        wait_until(&format!("{count} running instances of {name}"), || {
            let view = self.get(&format!("/deployments/{name}"))?;
            let all = view["instances"].as_array().cloned().unwrap_or_default();
            let well = |one: &Value| one["phase"] == "running" && one["wanted"] == true;
            if all.len() == count && all.iter().all(well) { Ok(all) } else { Err(view.to_string()) }
        })
    }

    /// Every node active, no volume and no network left.
    pub(super) fn forget_the_rest(&self) {
        for node in self.nodes() {
            self.set_availability(node, "active");
        }
        wait_until("volumes and networks to be forgotten", || {
            let volumes = self.get("/volumes")?;
            for volume in volumes.as_array().unwrap() {
                // `default/data.0`
                let name = volume["volume"].as_str().unwrap().rsplit('/').next().unwrap();
                self.ask("DELETE", &format!("/volumes/{name}"), &Value::Null)?;
            }
            let networks = self.get("/networks")?;
            for network in networks.as_array().unwrap() {
                let name = network["name"].as_str().unwrap();
                self.ask("DELETE", &format!("/networks/{name}"), &Value::Null)?;
            }
            let left = json!([volumes, networks]);
            if left == json!([[], []]) { Ok(()) } else { Err(left.to_string()) }
        });
    }

    /// A node as the server shows it.
    pub(crate) fn node_view(&self, node: u8) -> Result<Value, String> {
        self.get(&format!("/nodes/node-{node}"))
    }

    /// Waits until the server says this of a node.
    #[track_caller]
    pub(crate) fn wait_node(&self, node: u8, state: &str) -> Value {
        wait_until(&format!("node {node} to be {state}"), || {
            let view = self.node_view(node)?;
            if view["state"] == state { Ok(view) } else { Err(view.to_string()) }
        })
    }

    /// Sets what a node is there for: `active`, `cordoned`, `draining`.
    #[track_caller]
    pub(crate) fn set_availability(&self, node: u8, availability: &str) {
        let patch = json!({ "availability": availability });
        self.must("PATCH", &format!("/nodes/node-{node}"), &patch);
    }
}

/// The number of the host that an instance is on.
pub(crate) fn host_of(instance: &Value) -> u8 {
    instance["node_name"].as_str().unwrap()["node-".len()..].parse().unwrap()
}

/// `work` inside a network namespace, to be run on a thread of its own.
pub(super) fn enter<T>(netns: String, work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    move || {
        let file = File::open(format!("/run/netns/{netns}")).unwrap();
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    }
}

fn exchange(socket: &Path, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let odd = || io::Error::other(format!("no HTTP answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(odd)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(odd)?;
    Ok(Answer { status, body: serde_json::from_str(body).unwrap_or_default() })
}
