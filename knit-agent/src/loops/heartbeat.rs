//! Says "I live" every two seconds, and what changed about the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use knit_link::bus::{Bus, BusState};
use knit_rpc::id::NodeId;
use knit_rpc::message::{Heartbeat, NodeFacts};
use knit_rpc::subject;
use tokio::time::sleep;

use super::jittered;
use crate::shared::Shared;

const EVERY: Duration = Duration::from_secs(2);
/// What is known about the node is said again this often, in case a beat was lost.
const FACTS_EVERY: Duration = Duration::from_mins(1);
/// A beat of a node about which nothing changed.
pub const QUIET_BYTES_MAX: usize = 250;

pub async fn run(shared: Arc<Shared>, bus: Arc<dyn Bus>) {
    let mut state = bus.state();
    let mut engine = shared.engine.subscribe();
    let mut mesh = shared.mesh.subscribe();
    let mut unkept = shared.unkept.subscribe();
    let mut unheard = shared.unheard.subscribe();
    let mut volumes = shared.volumes.subscribe();
    let mut host = shared.host.subscribe();
    let mut probed = shared.probed.subscribe();
    let mut asked = shared.asked.subscribe();
    let mut said: Option<(NodeFacts, Instant)> = None;
    loop {
        if *state.borrow_and_update() == BusState::Connected {
            let facts = facts(&shared);
            let known = said
                .as_ref()
                .is_some_and(|(last, at)| *last == facts && at.elapsed() < FACTS_EVERY);
            let answers = probed.borrow_and_update().clone();
            let beat = beat(&shared, (!known).then(|| facts.clone()), answers.clone());
            if let Some(beat) = beat {
                match bus.publish(&subject::heartbeat(&shared.identity.node), beat).await {
                    Ok(()) => {
                        forget(&shared, &answers);
                        if !known {
                            said = Some((facts, Instant::now()));
                        }
                    }
                    Err(error) => tracing::debug!(%error, "a heartbeat was not sent"),
                }
            }
        }
        tokio::select! {
            () = sleep(jittered(EVERY)) => {}
            changed = state.changed() => {
                if changed.is_err() { return }
                said = None;
            }
            Ok(()) = asked.changed() => said = None,
            Ok(()) = volumes.changed() => {}
            Ok(()) = host.changed() => {}
            Ok(()) = probed.changed() => {}
            Ok(()) = engine.changed() => {}
            Ok(()) = mesh.changed() => {}
            Ok(()) = unkept.changed() => {}
            Ok(()) = unheard.changed() => {}
        }
    }
}

/// What was said of other nodes is not said again, unless it was asked again meanwhile.
fn forget(shared: &Shared, said: &BTreeMap<NodeId, bool>) {
    shared.probed.send_if_modified(|probed| {
        probed.retain(|node, answers| said.get(node) != Some(answers));
        false
    });
}

/// The beat as it goes out; none before the node belongs to a cluster.
pub fn beat(
    shared: &Shared,
    facts: Option<NodeFacts>,
    probed: BTreeMap<NodeId, bool>,
) -> Option<Vec<u8>> {
    let cluster = shared.registration.borrow().as_ref()?.cluster.clone();
    let inventory = shared.inventory.borrow().as_ref().map(crate::shared::Inventory::digest);
    let beat = Heartbeat {
        cluster,
        node: shared.identity.node.clone(),
        boot: shared.boot.clone(),
        agent_start: shared.start,
        applied: shared.applied(),
        inventory: inventory.unwrap_or_default(),
        facts,
        probed,
    };
    serde_json::to_vec(&beat).ok()
}

/// All that the node says about itself.
pub fn facts(shared: &Shared) -> NodeFacts {
    let engine = shared.engine.borrow().clone();
    let mesh = shared.mesh.borrow().clone();
    let info = engine.info.unwrap_or_default();
    let host = shared.host.borrow().clone();
    NodeFacts {
        name: shared.config.name.clone(),
        wg_pubkey: mesh.as_ref().map(|mesh| mesh.pubkey.clone()).unwrap_or_default(),
        mesh_ip: mesh.map(|mesh| mesh.ip),
        labels: shared.config.labels.clone(),
        arch: info.arch,
        kernel: info.kernel,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        docker: Some(info.version).filter(|version| !version.is_empty()),
        trouble: engine.trouble.or_else(|| shared.unkept.borrow().clone()),
        cpus: info.cpus,
        memory: info.memory,
        disk: host.disk,
        usage: host.usage,
        images: host.images,
        volumes: shared.volumes.borrow().clone(),
        policy: Some(shared.config.policy.clone()),
        unheard: shared.unheard.borrow().clone(),
    }
}
