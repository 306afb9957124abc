//! One dev cluster as a test holds it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use knit_runtime::child::{Child, ChildSpec};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{stderr, stdout, wait_until};

const KNIT: &str = env!("CARGO_BIN_EXE_knit");
/// Bound of a single command.
const COMMAND_SECONDS_MAX: &str = "60";

/// A running `knit dev`. It gets SIGTERM when the test process dies, however it dies.
pub(crate) struct Cluster {
    pub(crate) instance: String,
    nodes: u8,
    dev: Child,
}

/// Lives as long as the process: the children's output is read on it.
pub(super) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

impl Cluster {
    /// Starts a cluster and waits until every node is ready.
    pub(crate) fn start(instance: &str, nodes: u8) -> Self {
        Self::start_with(instance, nodes, &[])
    }

    /// The same with more said to `knit` before its command.
    pub(crate) fn start_with(instance: &str, nodes: u8, options: &[&str]) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests make hosts: run them as root");
        let spec = ChildSpec::new("knit dev", KNIT)
            .args(options.iter().copied())
            .args(["dev", "--instance", instance, "--nodes", &nodes.to_string()])
            .own_group()
            .death_signal(Signal::SIGTERM);
        let dev = runtime().block_on(Child::spawn(spec)).unwrap();
        let cluster = Self { instance: instance.to_owned(), nodes, dev };
        wait_until("the dev cluster", || {
            assert!(cluster.dev.exit().is_none(), "knit dev died:\n{}", cluster.said());
            // A state of an earlier run says nothing.
            let state = cluster.state();
            let up = state["stage"] == "ready" && state["dev"]["pid"] == cluster.dev.pid();
            if up { Ok(()) } else { Err(cluster.said()) }
        });
        cluster
    }

    /// What `knit dev` itself printed last.
    pub(crate) fn said(&self) -> String {
        self.dev.last_lines().join("\n")
    }

    /// Waits until `knit dev` has ended; true when it said that all is well.
    pub(crate) fn wait_ended(&self) -> bool {
        let ended = async { tokio::time::timeout(super::PATIENCE, self.dev.wait()).await };
        runtime().block_on(ended).expect("knit dev does not end").success()
    }

    pub(crate) fn signal_dev(&self, signal: Signal) {
        runtime().block_on(self.dev.signal(signal));
    }

    /// `knit dev … ARGS`.
    pub(crate) fn dev(&self, args: &[&str]) -> Output {
        Command::new(KNIT)
            .args(["dev", "--instance", &self.instance])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// `state.json`, empty when there is none.
    pub(crate) fn state(&self) -> Value {
        let text = std::fs::read(self.run_dir().join("state.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        PathBuf::from(format!("/run/knit-dev-{}", self.instance))
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        PathBuf::from(format!("/var/lib/knit-dev-{}", self.instance))
    }

    /// Where the server knows root without a token.
    pub(crate) fn api_socket(&self) -> PathBuf {
        PathBuf::from(format!("/run/knit-dev-{}/1/api.sock", self.instance))
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = u8> + use<> {
        1..=self.nodes
    }

    pub(crate) fn mesh_ip(&self, node: u8) -> String {
        let state = self.state();
        state["nodes"][usize::from(node) - 1]["mesh_ip"].as_str().unwrap().to_owned()
    }

    pub(crate) fn underlay(&self, node: u8) -> String {
        let state = self.state();
        state["nodes"][usize::from(node) - 1]["underlay"].as_str().unwrap().to_owned()
    }

    pub(crate) fn hub(&self) -> String {
        format!("knit-dev-{}-hub", self.instance)
    }

    pub(crate) fn netns(&self, node: u8) -> String {
        format!("knit-dev-{}-{node}", self.instance)
    }

    /// A command on a host, whatever becomes of it.
    pub(crate) fn try_on(&self, node: u8, command: &[&str]) -> Output {
        self.with_input(node, command, "")
    }

    /// A command on a host that must succeed; its stdout.
    #[track_caller]
    pub(crate) fn on(&self, node: u8, command: &[&str]) -> String {
        let output = self.try_on(node, command);
        assert!(
            output.status.success(),
            "{command:?} on node {node}: {}\n{}\n{}\nlogs:\n{}",
            output.status,
            stdout(&output),
            stderr(&output),
            self.logs()
        );
        stdout(&output)
    }

    /// A command on a host that runs on meanwhile, as this very process id.
    pub(crate) fn spawn_on(&self, node: u8, command: &[&str]) -> std::process::Child {
        Command::new(KNIT)
            .args(["dev", "--instance", &self.instance, "exec", &node.to_string(), "--"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// A command on a host that reads `input` and must succeed; its stdout.
    #[track_caller]
    pub(crate) fn on_with(&self, node: u8, command: &[&str], input: &str) -> String {
        let output = self.with_input(node, command, input);
        assert!(output.status.success(), "{command:?} on node {node}: {}", stderr(&output));
        stdout(&output)
    }

    pub(crate) fn with_input(&self, node: u8, command: &[&str], input: &str) -> Output {
        let mut child = Command::new("timeout")
            .args([COMMAND_SECONDS_MAX, KNIT, "dev", "--instance", &self.instance, "exec"])
            .args([&node.to_string(), "--"])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// `knit deploy` on host 1.
    pub(crate) fn try_deploy(&self, manifest: &Value) -> Output {
        self.with_input(1, &["knit", "deploy", "--timeout", "40", "-f", "-"], &manifest.to_string())
    }

    /// `knit deploy` on host 1, which must succeed.
    #[track_caller]
    pub(crate) fn deploy(&self, manifest: &Value) {
        let output = self.try_deploy(manifest);
        assert!(output.status.success(), "{}\nlogs:\n{}", stderr(&output), self.logs());
    }

    /// JSON that a command on host 1 prints.
    #[track_caller]
    pub(crate) fn json(&self, command: &[&str]) -> Value {
        serde_json::from_str(&self.on(1, command)).unwrap()
    }

    /// Instances of all deployments.
    #[track_caller]
    pub(crate) fn instances(&self) -> Vec<Value> {
        let list = self.json(&["knit", "list", "instances", "-o", "json"]);
        list.as_array().unwrap().clone()
    }

    /// Ids and start times of the containers that Knit made on a host.
    pub(crate) fn containers(&self, node: u8) -> Vec<String> {
        let format = "{{.Id}} {{.State.StartedAt}}";
        let inspect = ["docker", "inspect", "-f", format];
        loop {
            let ids = self.on(node, &["docker", "ps", "-q", "--filter", "label=knit.cluster"]);
            let ids: Vec<&str> = ids.lines().collect();
            if ids.is_empty() {
                return Vec::new();
            }
            let output = self.try_on(node, &[inspect.as_slice(), &ids].concat());
            if output.status.success() {
                return stdout(&output).lines().map(str::to_owned).collect();
            }
            // One that was removed in between is listed no more.
            let told = stderr(&output);
            assert!(told.contains("No such object"), "{ids:?} on node {node}: {told}");
        }
    }

    /// The page that a port of a host's mesh address shows to another host.
    pub(crate) fn page(&self, from: u8, of: u8, port: u16) -> Result<String, String> {
        let url = format!("http://{}:{port}/", self.mesh_ip(of));
        let output = self.try_on(from, &["curl", "-sS", "--fail", "--max-time", "3", &url]);
        if output.status.success() { Ok(stdout(&output)) } else { Err(stderr(&output)) }
    }

    /// Kills a program; nobody starts it again.
    #[track_caller]
    pub(crate) fn kill(&self, node: u8, part: &str) {
        let output = self.dev(&["kill", &node.to_string(), part]);
        assert!(output.status.success(), "{}", stderr(&output));
    }

    #[track_caller]
    pub(crate) fn start_part(&self, node: u8, part: &str) {
        let output = self.dev(&["start", &node.to_string(), part]);
        assert!(output.status.success(), "{}", stderr(&output));
    }

    /// All programs running, all nodes ready, nothing deployed.
    pub(crate) fn put_in_order(&self) {
        for node in self.state()["nodes"].as_array().unwrap() {
            let number = node["number"].to_string();
            for part in node["parts"].as_array().unwrap() {
                if part["running"] == false {
                    self.dev(&["start", &number, part["part"].as_str().unwrap()]);
                }
            }
        }
        self.wait_ready();
        let names = self.on(1, &["knit", "list", "deployments", "-o", "name"]);
        for name in names.lines() {
            self.on(1, &["knit", "undeploy", name]);
        }
        self.forget_the_rest();
    }

    /// Waits until the server counts every node as ready.
    #[track_caller]
    pub(crate) fn wait_ready(&self) {
        wait_until("all nodes ready", || {
            let output = self.try_on(1, &["knit", "list", "nodes", "-o", "json"]);
            let nodes: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let ready = nodes.iter().filter(|node| node["state"] == "ready").count();
            if ready == usize::from(self.nodes) {
                return Ok(());
            }
            Err(format!("{nodes:?} {}\nlogs:\n{}", stderr(&output), self.logs()))
        });
    }

    /// The end of every program's log.
    pub(crate) fn logs(&self) -> String {
        let mut text = String::new();
        let logs = std::fs::read_dir(self.run_dir().join("logs")).into_iter().flatten().flatten();
        for log in logs {
            let lines = std::fs::read_to_string(log.path()).unwrap_or_default();
            let lines: Vec<&str> = lines.lines().collect();
            let tail = lines[lines.len().saturating_sub(15)..].join("\n");
            text = format!("{text}--- {}\n{tail}\n", log.file_name().display());
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.dev.exit().is_none() {
            runtime().block_on(self.dev.stop(Duration::from_mins(1)));
        }
        // After a kill -9 of `knit dev` this is what removes the rest.
        self.dev(&["stop"]);
    }
}
