//! Which processes are ours, and their end.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::dev::layout::netns_path;
use crate::dev::state::ProcessId;

/// Device and inode of a namespace: what tells it from others.
pub(super) type NamespaceId = (u64, u64);

/// The identities of namespaces by name.
pub(super) fn namespace_ids(names: &[String]) -> BTreeSet<NamespaceId> {
    names.iter().filter_map(|name| namespace_id(&netns_path(name))).collect()
}

fn namespace_id(path: &Path) -> Option<NamespaceId> {
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Living processes that belong to an instance, the caller and its ancestors aside.
pub(super) fn ours(
    recorded: &[ProcessId],
    namespaces: &BTreeSet<NamespaceId>,
    prefix: &str,
) -> Vec<ProcessId> {
    let spared = ancestors();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let candidates = pids.filter(|pid| !spared.contains(pid)).filter_map(ProcessId::of);
    let is_ours = |process: &ProcessId| {
        recorded.contains(process)
            || namespace_id(Path::new(&format!("/proc/{}/ns/net", process.pid)))
                .is_some_and(|id| namespaces.contains(&id))
            || in_cgroup(process.pid, prefix)
    };
    candidates.filter(|process| process.is_alive() && is_ours(process)).collect()
}

/// Kills processes, each only if it still is the one that was found.
pub(super) fn kill(processes: &[ProcessId]) {
    for process in processes.iter().filter(|process| process.is_alive()) {
        let _ = signal::kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
}

/// Removes the control groups of an instance, the innermost first.
pub(super) fn remove_cgroups(prefix: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten();
    let below = hierarchies.map(|hierarchy| hierarchy.path().join(prefix));
    for group in below.chain([root.join(prefix)]) {
        remove_tree(&group);
    }
}

/// A control group's files cannot be removed, its directory can.
fn remove_tree(group: &Path) {
    for child in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&child.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}

fn in_cgroup(pid: i32, prefix: &str) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().any(|line| is_below(line, prefix))
}

/// Whether a line of `/proc/PID/cgroup` names a group below one called `prefix`.
fn is_below(line: &str, prefix: &str) -> bool {
    line.splitn(3, ':').nth(2).is_some_and(|path| path.split('/').any(|part| part == prefix))
}

fn ancestors() -> BTreeSet<i32> {
    let mut pids = BTreeSet::new();
    let mut pid = i32::try_from(std::process::id()).unwrap_or_default();
    while pid > 0 && pids.insert(pid) {
        pid = parent(pid).unwrap_or_default();
    }
    pids
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_group_is_ours_by_its_whole_name() {
        assert!(is_below("4:memory:/knit-dev/1/abc", "knit-dev"));
        assert!(is_below("0::/docker/xyz/knit-dev/1/abc", "knit-dev"));
        assert!(!is_below("4:memory:/knit-dev-2/1/abc", "knit-dev"));
        assert!(!is_below("4:memory:/", "knit-dev"));
    }

    #[test]
    fn nothing_is_ours_on_a_host_without_an_instance() {
        assert!(ours(&[], &BTreeSet::new(), "knit-dev-no-such-instance").is_empty());
    }

    #[test]
    fn we_spare_ourselves() {
        let me = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(ours(&[me], &BTreeSet::new(), "knit-dev-no-such-instance").is_empty());
    }
}
