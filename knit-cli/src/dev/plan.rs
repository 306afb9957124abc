//! What a dev cluster consists of: its nodes, and how each of their programs is started. Pure.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use knit_runtime::child::ChildSpec;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::layout::{self, Layout};

/// A program of a node.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// Runs Docker's containers.
    Containerd,
    /// The node's own Docker.
    Dockerd,
    /// The sidecar, `meshctl join`.
    Mesh,
    /// `knit-server`, on node 1.
    Server,
    /// `nats-server`, a child of the server.
    Nats,
    /// `knit-agent`.
    Agent,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Containerd => "containerd",
            Self::Dockerd => "dockerd",
            Self::Mesh => "mesh",
            Self::Server => "server",
            Self::Nats => "nats",
            Self::Agent => "agent",
        })
    }
}

/// Where the programs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programs {
    pub(crate) meshctl: PathBuf,
    pub(crate) server: PathBuf,
    pub(crate) agent: PathBuf,
    /// PATH for all of them.
    pub(crate) path: String,
}

/// One node of a dev cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodePlan {
    pub(crate) number: u8,
    pub(crate) name: String,
    /// Absent when the node is the host itself.
    pub(crate) netns: Option<String>,
    pub(crate) underlay: Option<Ipv4Addr>,
    pub(crate) docker_socket: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) data: PathBuf,
}

/// A whole dev cluster.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) layout: Layout,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) programs: Programs,
    /// `KEY=VALUE` each; every node carries them.
    pub(crate) labels: Vec<String>,
    /// Of every node's agent; this host's own is left alone.
    pub(crate) agent_config: Option<PathBuf>,
    /// The sidecar's port on the host itself; in namespaces it is the usual one.
    pub(crate) host_mesh_port: u16,
    pub(crate) log_level: Option<String>,
}

impl NodePlan {
    /// Node `number` in a namespace of its own, with a Docker of its own.
    pub(crate) fn in_netns(layout: &Layout, number: u8) -> Self {
        let run = layout.run.join(number.to_string());
        Self {
            number,
            name: format!("node-{number}"),
            netns: Some(layout.node_netns(number)),
            underlay: Some(layout::underlay_address(number)),
            docker_socket: run.join("docker.sock"),
            data: layout.data.join(number.to_string()),
            run,
        }
    }

    /// The host itself, with its Docker.
    pub(crate) fn on_host(layout: &Layout, docker_socket: &Path) -> Self {
        Self {
            name: "node-1".to_owned(),
            netns: None,
            underlay: None,
            docker_socket: docker_socket.to_owned(),
            ..Self::in_netns(layout, 1)
        }
    }

    pub(crate) fn netns_path(&self) -> Option<PathBuf> {
        self.netns.as_deref().map(layout::netns_path)
    }

    pub(crate) fn runs_server(&self) -> bool {
        self.number == 1
    }

    pub(crate) fn mesh_socket(&self) -> PathBuf {
        self.run.join("mesh.sock")
    }

    /// Where the server answers root without a token, in every namespace.
    pub(crate) fn api_socket(&self) -> PathBuf {
        self.run.join("api.sock")
    }

    pub(crate) fn mesh_interface(&self) -> &'static str {
        if self.netns.is_some() { layout::NODE_INTERFACE } else { layout::HOST_INTERFACE }
    }

    pub(crate) fn docker_host(&self) -> String {
        format!("unix://{}", self.docker_socket.display())
    }

    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.run.join("containerd.sock")
    }

    /// The programs that `knit dev` starts for this node, in the order in which they start.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let docker = self.netns.is_some().then_some([Part::Containerd, Part::Dockerd]);
        let server = self.runs_server().then_some(Part::Server);
        docker
            .into_iter()
            .flatten()
            .chain([Part::Mesh])
            .chain(server)
            .chain([Part::Agent])
            .collect()
    }

    /// The files that dockerd and containerd read.
    pub(crate) fn config_files(&self) -> Vec<(PathBuf, String)> {
        if self.netns.is_none() {
            return Vec::new();
        }
        vec![
            // The host's own /etc/docker/daemon.json must not leak in.
            (self.run.join("daemon.json"), "{}\n".to_owned()),
            (self.run.join("containerd.toml"), self.containerd_config()),
        ]
    }

    fn containerd_config(&self) -> String {
        let path = |path: PathBuf| toml_string(&path.display().to_string());
        let socket = self.containerd_socket();
        let mut ttrpc = socket.clone().into_os_string();
        ttrpc.push(".ttrpc");
        format!(
            "version = 2\nroot = {root}\nstate = {state}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.aufs\", \
             \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.devmapper\", \
             \"io.containerd.snapshotter.v1.zfs\"]\n\
             [grpc]\naddress = {socket}\n[ttrpc]\naddress = {ttrpc}\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = {opt}\n",
            root = path(self.data.join("containerd")),
            state = path(self.run.join("containerd")),
            socket = path(socket),
            ttrpc = path(ttrpc.into()),
            opt = path(self.data.join("opt")),
        )
    }
}

impl Plan {
    pub(crate) fn node(&self, number: u8) -> Option<&NodePlan> {
        self.nodes.iter().find(|node| node.number == number)
    }

    pub(crate) fn log_file(&self, node: &NodePlan, part: Part) -> PathBuf {
        self.layout.logs.join(format!("{}-{part}.log", node.name))
    }

    /// How a program is started; `None` for one that is another's child.
    pub(crate) fn spec(&self, node: &NodePlan, part: Part) -> Option<ChildSpec> {
        let name = format!("{} {part}", node.name);
        let run = |file: &str| node.run.join(file).display().to_string();
        let data = |dir: &str| node.data.join(dir).display().to_string();
        let mesh_socket = node.mesh_socket().display().to_string();
        let spec = match part {
            Part::Nats => return None,
            Part::Containerd => ChildSpec::new(name, "containerd")
                .args(["--config".to_owned(), run("containerd.toml")])
                .args(["--log-level", "warn"]),
            Part::Dockerd => ChildSpec::new(name, "dockerd")
                .args(["--config-file".to_owned(), run("daemon.json")])
                .args(["--data-root".to_owned(), data("docker")])
                .args(["--exec-root".to_owned(), run("docker")])
                .args(["--pidfile".to_owned(), run("docker.pid")])
                .args(["--host".to_owned(), node.docker_host()])
                .args(["--containerd".to_owned(), run("containerd.sock")])
                .args(["--cgroup-parent".to_owned(), self.cgroup(node)])
                .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
                // It stops its containers, so that they do not outlive it.
                .death_signal(Signal::SIGTERM),
            Part::Mesh => self.mesh(node, ChildSpec::new(name, &self.programs.meshctl)),
            Part::Server => ChildSpec::new(name, &self.programs.server)
                .args(["run".to_owned(), "--state-dir".to_owned(), data("server")])
                .args(["--mesh-socket".to_owned(), mesh_socket])
                .args(["--socket".to_owned(), node.api_socket().display().to_string()]),
            Part::Agent => ChildSpec::new(name, &self.programs.agent)
                .args(["run".to_owned(), "--state-dir".to_owned(), data("agent")])
                .args(["--secrets-dir".to_owned(), run("secrets")])
                .args(["--mesh-socket".to_owned(), mesh_socket])
                .args(["--docker-socket".to_owned(), node.docker_host()])
                .args(["--name", &node.name])
                .args(["--config".to_owned(), self.agent_config()])
                .args(self.labels.iter().flat_map(|label| ["--label", label])),
        };
        Some(self.finish(node, part, spec))
    }

    fn agent_config(&self) -> String {
        let file = self.agent_config.as_deref().unwrap_or(Path::new("/dev/null"));
        file.display().to_string()
    }

    /// Control group of a node's containers.
    fn cgroup(&self, node: &NodePlan) -> String {
        format!("{}/{}", self.layout.cgroup(), node.number)
    }

    fn mesh(&self, node: &NodePlan, spec: ChildSpec) -> ChildSpec {
        let secret = self.layout.secret_file().display().to_string();
        let spec = spec
            .args(["join".to_owned(), "--secret-file".to_owned(), secret])
            .args(["--interface", node.mesh_interface()])
            .args(["--socket-path".to_owned(), node.mesh_socket().display().to_string()])
            .args(["--state-dir".to_owned(), node.data.join("mesh").display().to_string()])
            .args(["--hostname", &node.name]);
        if node.netns.is_some() {
            // Multicast finds the others within a second; seeds are there from the first packet.
            let others = self.nodes.iter().filter(|other| other.number != node.number);
            let seeds = others.filter_map(|other| other.underlay);
            seeds.fold(spec, |spec, seed| spec.args(["--seed".to_owned(), seed.to_string()]))
        } else {
            spec.args(["--listen-port".to_owned(), self.host_mesh_port.to_string()])
                .args(["--no-lan-discovery", "--teardown"])
        }
    }

    fn finish(&self, node: &NodePlan, part: Part, spec: ChildSpec) -> ChildSpec {
        let ours = matches!(part, Part::Mesh | Part::Server | Part::Agent);
        let mut spec = spec.own_group().log_file(self.log_file(node, part));
        spec.netns = node.netns_path();
        if ours && let Some(level) = &self.log_level {
            spec = spec.env("KNIT_LOG", level);
        }
        // What the user's shell points at must not reach into the cluster, and a service manager
        // that started us is not to be told of our children.
        let foreign = [
            "KNIT_SERVER",
            "KNIT_TOKEN",
            "KNIT_TOKEN_FILE",
            "WGMESH_SOCKET",
            "DOCKER_HOST",
            "NOTIFY_SOCKET",
        ];
        spec.env_remove = foreign.map(str::to_owned).to_vec();
        spec.env("PATH", &self.programs.path)
    }
}

fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::super::layout::Instance;
    use super::*;

    fn plan(nodes: u8) -> Plan {
        let layout = Layout::new(&Instance::parse(Some("t1")).unwrap(), None).unwrap();
        let path = |name: &str| PathBuf::from("/usr/bin").join(name);
        Plan {
            nodes: (1..=nodes).map(|number| NodePlan::in_netns(&layout, number)).collect(),
            layout,
            programs: Programs {
                meshctl: path("meshctl"),
                server: path("knit-server"),
                agent: path("knit-agent"),
                path: "/usr/bin".to_owned(),
            },
            labels: vec!["role=web".to_owned()],
            agent_config: None,
            host_mesh_port: 51830,
            log_level: None,
        }
    }

    #[test]
    fn only_node_1_runs_the_server() {
        let plan = plan(2);
        assert!(plan.nodes[0].parts().contains(&Part::Server));
        assert!(!plan.nodes[1].parts().contains(&Part::Server));
        assert_eq!(plan.nodes[1].parts().first(), Some(&Part::Containerd));
    }

    #[test]
    fn two_nodes_share_no_file_and_no_namespace() {
        let plan = plan(2);
        for part in [Part::Containerd, Part::Dockerd, Part::Mesh, Part::Agent] {
            let [one, two] = [0, 1].map(|i| plan.spec(&plan.nodes[i], part).unwrap());
            assert_ne!(one.netns, two.netns);
            let own = |arg: &&String| arg.starts_with("/run/") || arg.starts_with("/var/");
            let shared = plan.layout.secret_file().display().to_string();
            for arg in one.args.iter().filter(own).filter(|arg| **arg != shared) {
                assert!(!two.args.contains(arg), "{part}: {arg}");
            }
        }
    }

    #[test]
    fn the_host_keeps_its_docker_and_its_lan_quiet() {
        let mut plan = plan(1);
        plan.nodes = vec![NodePlan::on_host(&plan.layout, Path::new("/var/run/docker.sock"))];
        assert_eq!(plan.nodes[0].parts(), [Part::Mesh, Part::Server, Part::Agent]);
        let mesh = plan.spec(&plan.nodes[0], Part::Mesh).unwrap();
        assert!(mesh.args.contains(&"--no-lan-discovery".to_owned()));
        assert_eq!(mesh.netns, None);
    }
}
