//! Tells the server what became of instances, until it says that it stored it.
//!
//! Invariant: what was not answered is said again, with a higher sequence number; then, and after
//! each connect, the whole inventory is said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use knit_link::bus::{Bus, BusState};
use knit_rpc::id::InstanceId;
use knit_rpc::message::{InstanceReport, InstanceStatus, ReportStored};
use knit_rpc::subject;
use tokio::time::sleep;

use super::jittered;
use crate::last_assignment;
use crate::shared::{Inventory, Shared};

const ANSWER_MAX: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What the server is known to know.
struct Reporter {
    shared: Arc<Shared>,
    bus: Arc<dyn Bus>,
    stored: BTreeMap<InstanceId, InstanceStatus>,
    /// The whole inventory is due: nothing is known of what the server knows.
    full: bool,
    sequence: u64,
}

pub async fn run(shared: Arc<Shared>, bus: Arc<dyn Bus>) {
    let mut state = bus.state();
    let mut inventory = shared.inventory.subscribe();
    let mut asked = shared.asked.subscribe();
    let mut retry = RETRY_MIN;
    let mut reporter = Reporter { shared, bus, stored: BTreeMap::new(), full: true, sequence: 0 };
    loop {
        let connected = *state.borrow_and_update() == BusState::Connected;
        let current = inventory.borrow_and_update().clone();
        let due = connected.then_some(current).flatten().and_then(|now| reporter.report(&now));
        let failed = match due {
            Some((report, held)) => !reporter.send(report, held).await,
            None => false,
        };
        // Nobody knows whether the server stored what it did not answer: only the whole inventory
        // tells it of what came and went, or changed and changed back, meanwhile.
        reporter.full |= failed;
        retry = if failed { (retry * 2).min(RETRY_MAX) } else { RETRY_MIN };
        tokio::select! {
            changed = state.changed() => {
                if changed.is_err() { return }
                reporter.full = true;
            }
            Ok(()) = inventory.changed(), if !failed => {}
            Ok(()) = asked.changed() => reporter.full = true,
            () = sleep(jittered(retry)), if failed => {}
        }
    }
}

impl Reporter {
    /// The report that is due, if any, and the inventory that the server knows once it is stored.
    fn report(&mut self, now: &Inventory) -> Option<(InstanceReport, Inventory)> {
        let changed: Vec<InstanceStatus> = now
            .instances
            .values()
            .filter(|one| self.full || self.stored.get(&one.id) != Some(one))
            .cloned()
            .collect();
        let removed: Vec<InstanceId> =
            self.stored.keys().filter(|id| !now.instances.contains_key(id)).cloned().collect();
        if !self.full && changed.is_empty() && removed.is_empty() {
            return None;
        }
        let cluster = self.shared.registration.borrow().as_ref()?.cluster.clone();
        self.sequence += 1;
        let held = self.full && self.shared.asked.borrow().held;
        let report = InstanceReport {
            cluster,
            node: self.shared.identity.node.clone(),
            agent_start: self.shared.start,
            sequence: self.sequence,
            full: self.full,
            applied: now.applied,
            instances: changed,
            removed: if self.full { Vec::new() } else { removed },
            held: if held { self.held_assignment() } else { None },
        };
        Some((report, now.clone()))
    }

    fn held_assignment(&self) -> Option<String> {
        let bytes = last_assignment::load(&self.shared.config.state_dir).ok().flatten()?;
        String::from_utf8(bytes).ok()
    }

    /// True once the server stored it.
    async fn send(&mut self, report: InstanceReport, now: Inventory) -> bool {
        let Ok(payload) = serde_json::to_vec(&report) else { return false };
        let subject = subject::status(&self.shared.identity.node);
        match self.bus.request(&subject, payload, ANSWER_MAX).await {
            Ok(answer) => {
                let stored: Result<ReportStored, _> = serde_json::from_slice(&answer);
                let is_ours = stored.is_ok_and(|stored| stored.sequence == report.sequence);
                if is_ours {
                    self.stored = now.instances;
                    self.full = false;
                    if report.held.is_some() {
                        self.shared.asked.send_if_modified(|asked| {
                            asked.held = false;
                            false
                        });
                    }
                }
                is_ours
            }
            Err(error) => {
                tracing::debug!(%error, sequence = report.sequence, "a report was not answered");
                false
            }
        }
    }
}
