//! Reports: repeated until the server has stored them.

use std::collections::BTreeMap;
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;
use knit_rpc::message::{InstanceReport, InstanceStatus};

use super::Host;
use super::agent::{Agent, Inventory};

const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What the server is known to know.
#[derive(Debug)]
pub(super) struct Reporter {
    stored: BTreeMap<InstanceId, InstanceStatus>,
    /// The whole inventory is due.
    full: bool,
    sequence: u64,
    /// Said and not answered yet.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    sequence: u64,
    at: Timestamp,
    was_full: bool,
    inventory: Inventory,
}

impl Default for Reporter {
    fn default() -> Self {
        Self { stored: BTreeMap::new(), full: true, sequence: 0, open: None }
    }
}

impl Reporter {
    pub(super) fn ask_all(&mut self) {
        (self.full, self.open) = (true, None);
    }

    /// The server has stored a report.
    pub(super) fn stored(&mut self, sequence: u64) {
        if let Some(open) = self.open.take_if(|open| open.sequence == sequence) {
            self.full &= !open.was_full;
            self.stored = open.inventory.instances;
        }
    }
}

impl Agent {
    /// The report that is due, if any.
    pub(super) fn report(&mut self, host: &Host, now: Timestamp) -> Option<InstanceReport> {
        let current = self.inventory.clone()?;
        let reporter = &mut self.reporter;
        if reporter.open.as_ref().is_some_and(|open| now.since(open.at) < ANSWER_MAX) {
            return None;
        }
        // Nobody knows whether the server stored what it did not answer.
        reporter.full |= reporter.open.is_some();
        let changed: Vec<InstanceStatus> = current
            .instances
            .values()
            .filter(|one| reporter.full || reporter.stored.get(&one.id) != Some(one))
            .cloned()
            .collect();
        let is_gone = |id: &&InstanceId| !current.instances.contains_key(*id);
        let removed: Vec<InstanceId> = reporter.stored.keys().filter(is_gone).cloned().collect();
        if !reporter.full && changed.is_empty() && removed.is_empty() {
            return None;
        }
        reporter.sequence += 1;
        let report = InstanceReport {
            cluster: host.owner.cluster.clone(),
            node: host.owner.node.clone(),
            agent_start: self.start,
            sequence: reporter.sequence,
            full: reporter.full,
            applied: current.applied,
            instances: changed,
            removed: if reporter.full { Vec::new() } else { removed },
            held: None,
        };
        let was_full = reporter.full;
        let sequence = reporter.sequence;
        reporter.open = Some(Open { sequence, at: now, was_full, inventory: current });
        Some(report)
    }
}
