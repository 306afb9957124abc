//! A running dev cluster: its children, and what is known of it.
//!
//! ```text
//! start ─> Child ─> watcher ─> (unexpected death) ─> told, with its last lines
//! every change ─> state.json
//! ```
//!
//! Invariant: a program of a node runs at most once. A dead one stays dead until somebody asks for
//! it: whoever develops wants to see that it died.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use knit_runtime::child::{Child, ChildError, describe_exit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::plan::{NodePlan, Part, Plan};
use super::progress::Progress;
use super::state::{NodeState, PartState, ProcessId, Stage, State};

/// How long a program may take to end when asked.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Why a program could not be started or signalled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartError {
    #[error("there is no node {0}")]
    NoNode(u8),
    #[error("node {0} has no {1}")]
    NoPart(u8, Part),
    #[error("the {1} of node {0} runs already")]
    Running(u8, Part),
    #[error("the {1} of node {0} does not run")]
    Dead(u8, Part),
    #[error("nats-server is the server's child, which starts it again by itself")]
    NotOurs,
    #[error("there is no signal {0}")]
    NoSignal(i32),
    #[error("the signal could not be sent")]
    Signal(#[source] nix::Error),
    #[error(transparent)]
    Child(#[from] ChildError),
}

/// The children of a dev cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) plan: Plan,
    pub(crate) progress: Progress,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    stage: Stage,
    server: Option<String>,
    mesh_ips: BTreeMap<u8, String>,
    children: BTreeMap<(u8, Part), Slot>,
}

#[derive(Debug, Clone)]
struct Slot {
    child: Arc<Child>,
    process: Option<ProcessId>,
    /// Whether its end was asked for.
    expected: bool,
}

impl Cluster {
    pub(crate) fn new(plan: Plan, progress: Progress) -> Arc<Self> {
        let known = Known {
            stage: Stage::Starting,
            server: None,
            mesh_ips: BTreeMap::new(),
            children: BTreeMap::new(),
        };
        Arc::new(Self { plan, progress, known: Mutex::new(known) })
    }

    /// Starts a program of a node.
    pub(crate) async fn start(self: &Arc<Self>, node: u8, part: Part) -> Result<(), PartError> {
        if self.slot(node, part).is_some_and(|slot| slot.child.exit().is_none()) {
            return Err(PartError::Running(node, part));
        }
        let spec = self.plan.spec(self.node(node)?, part).ok_or(PartError::NotOurs)?;
        if !self.node(node)?.parts().contains(&part) {
            return Err(PartError::NoPart(node, part));
        }
        let child = Arc::new(Child::spawn(spec).await?);
        let process = i32::try_from(child.pid()).ok().and_then(ProcessId::of);
        let slot = Slot { child: child.clone(), process, expected: false };
        self.lock().children.insert((node, part), slot);
        self.save();
        let cluster = self.clone();
        tokio::spawn(async move { cluster.watch(node, part, child).await });
        Ok(())
    }

    /// Tells when a child dies, unless that was asked for.
    async fn watch(self: Arc<Self>, node: u8, part: Part, child: Arc<Child>) {
        let status = child.wait().await;
        self.save();
        let expected = self.slot(node, part).is_some_and(|slot| slot.expected);
        if !expected && self.stage() != Stage::Stopping {
            let log = self.plan.node(node).map(|node| self.plan.log_file(node, part));
            let log = log.unwrap_or_default();
            let text = format!(
                "the {part} of node {node} died ({}); its log: {}; start it again: knit dev start {node} {part}",
                describe_exit(status),
                log.display()
            );
            self.progress.alarm(&text, &child.last_lines());
        }
    }

    /// Sends a program a signal.
    pub(crate) async fn kill(&self, node: u8, part: Part, signal: i32) -> Result<(), PartError> {
        let signal = Signal::try_from(signal).map_err(|_| PartError::NoSignal(signal))?;
        if part == Part::Nats {
            return self.kill_nats(node, signal);
        }
        let slot = self.running(node, part)?;
        slot.child.signal(signal).await;
        if signal == Signal::SIGKILL {
            slot.child.wait().await;
        }
        Ok(())
    }

    /// The server's child is found below it, by its name.
    fn kill_nats(&self, node: u8, signal: Signal) -> Result<(), PartError> {
        let server = self.running(node, Part::Server)?;
        let children = children_of(server.child.pid());
        let nats = children.into_iter().find(|pid| command_of(*pid) == "nats-server");
        let pid = nats.ok_or(PartError::Dead(node, Part::Nats))?;
        kill(Pid::from_raw(pid), signal).map_err(PartError::Signal)
    }

    /// Stops a program politely, if it runs, and starts it again.
    pub(crate) async fn restart(self: &Arc<Self>, node: u8, part: Part) -> Result<(), PartError> {
        self.stop(node, part).await;
        self.start(node, part).await
    }

    /// Stops a program politely; does nothing when it does not run.
    pub(crate) async fn stop(&self, node: u8, part: Part) {
        let slot = match self.lock().children.get_mut(&(node, part)) {
            Some(slot) => {
                slot.expected = true;
                slot.clone()
            }
            None => return,
        };
        slot.child.stop(STOP_GRACE).await;
    }

    /// How a program died, if it is dead: for those who wait for it.
    pub(crate) fn death(&self, node: u8, part: Part) -> Option<String> {
        let slot = self.slot(node, part)?;
        slot.child.exit().map(describe_exit)
    }

    pub(crate) fn set_stage(&self, stage: Stage) {
        self.lock().stage = stage;
        self.save();
    }

    pub(crate) fn set_mesh_ip(&self, node: u8, mesh_ip: &str) {
        self.lock().mesh_ips.insert(node, mesh_ip.to_owned());
        self.save();
    }

    pub(crate) fn set_server(&self, url: &str) {
        self.lock().server = Some(url.to_owned());
        self.save();
    }

    /// What is known, for `state.json`.
    pub(crate) fn state(&self) -> State {
        let known = self.lock();
        let layout = &self.plan.layout;
        State {
            stage: known.stage,
            dev: i32::try_from(std::process::id()).ok().and_then(ProcessId::of),
            server: known.server.clone(),
            run: layout.run.clone(),
            data: layout.data.clone(),
            logs: layout.logs.clone(),
            nodes: self.plan.nodes.iter().map(|node| self.node_state(node, &known)).collect(),
        }
    }

    fn node_state(&self, node: &NodePlan, known: &Known) -> NodeState {
        let part_state = |part: Part| {
            let slot = known.children.get(&(node.number, part));
            let exit = slot.and_then(|slot| slot.child.exit());
            PartState {
                part,
                running: slot.is_some() && exit.is_none(),
                process: slot.and_then(|slot| slot.process),
                exit: exit.map(describe_exit),
                log: self.plan.log_file(node, part),
            }
        };
        NodeState {
            number: node.number,
            name: node.name.clone(),
            netns: node.netns_path(),
            underlay: node.underlay,
            docker: node.docker_host(),
            mesh_socket: node.mesh_socket(),
            mesh_interface: node.mesh_interface().to_owned(),
            mesh_ip: known.mesh_ips.get(&node.number).cloned(),
            parts: node.parts().into_iter().map(part_state).collect(),
        }
    }

    pub(crate) fn save(&self) {
        let path = self.plan.layout.state_file();
        match self.state().write(&path) {
            Ok(()) => {}
            // At the very end the directory is gone before the last watcher wakes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "cannot write the state"),
        }
    }

    fn running(&self, node: u8, part: Part) -> Result<Slot, PartError> {
        self.node(node)?;
        let slot = self.slot(node, part).ok_or(PartError::NoPart(node, part))?;
        if slot.child.exit().is_some() { Err(PartError::Dead(node, part)) } else { Ok(slot) }
    }

    fn node(&self, node: u8) -> Result<&NodePlan, PartError> {
        self.plan.node(node).ok_or(PartError::NoNode(node))
    }

    fn stage(&self) -> Stage {
        self.lock().stage
    }

    fn slot(&self, node: u8, part: Part) -> Option<Slot> {
        self.lock().children.get(&(node, part)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Children of a process, whichever of its threads started them.
fn children_of(pid: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

fn command_of(pid: i32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}
