//! What a dev cluster wrote down of itself, for `status`, `exec` and the next run's cleaning.
//!
//! Invariant: a process is known by its pid *and* its start time, so that a pid that the kernel
//! gave to a stranger is never taken for ours.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::Part;

/// How far a dev cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// On its way up.
    Starting,
    /// Every node is ready.
    Ready,
    /// On its way down.
    Stopping,
}

/// A process that cannot be mistaken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// Clock ticks after boot, from `/proc/PID/stat`.
    pub(crate) start: u64,
}

impl ProcessId {
    /// The process that has this pid now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, start: start_time(&stat)? })
    }

    /// Whether it still lives, as itself.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self) && !is_zombie(self.pid)
    }
}

/// Field 22, counted behind the name, which may hold blanks and parentheses.
fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

/// One program of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartState {
    pub(crate) part: Part,
    pub(crate) running: bool,
    #[serde(flatten)]
    pub(crate) process: Option<ProcessId>,
    /// How it ended, if it did.
    pub(crate) exit: Option<String>,
    pub(crate) log: PathBuf,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeState {
    pub(crate) number: u8,
    pub(crate) name: String,
    pub(crate) netns: Option<PathBuf>,
    pub(crate) underlay: Option<std::net::Ipv4Addr>,
    pub(crate) docker: String,
    pub(crate) mesh_socket: PathBuf,
    pub(crate) mesh_interface: String,
    pub(crate) mesh_ip: Option<String>,
    pub(crate) parts: Vec<PartState>,
}

/// A whole dev cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) stage: Stage,
    /// `knit dev` itself.
    pub(crate) dev: Option<ProcessId>,
    /// The REST API on the mesh.
    pub(crate) server: Option<String>,
    pub(crate) run: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) nodes: Vec<NodeState>,
}

impl State {
    /// Reads the state; `None` when there is none, or none that can be read.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        knit_runtime::file::write_atomic(path, &text, 0o600)
    }

    pub(crate) fn node(&self, number: u8) -> Option<&NodeState> {
        self.nodes.iter().find(|node| node.number == number)
    }

    /// Every process that was ever recorded, `knit dev` itself aside.
    pub(crate) fn processes(&self) -> Vec<ProcessId> {
        self.nodes.iter().flat_map(|node| &node.parts).filter_map(|part| part.process).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let rest = (3..=24).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(start_time(&format!("77 (a) b (c)) {rest}")), Some(22));
        assert_eq!(start_time("77 no name"), None);
    }

    #[test]
    fn a_pid_with_another_start_is_a_stranger() {
        let me = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.is_alive());
        assert!(!ProcessId { start: me.start + 1, ..me }.is_alive());
    }
}
