//! Heartbeats.

use std::collections::BTreeMap;
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::NodeId;
use knit_rpc::message::{Heartbeat, NodeFacts};

use super::Host;
use super::agent::Agent;
use crate::simulation::rng::Rng;
use crate::simulation::wire::Message;

const FACTS_EVERY: Duration = Duration::from_secs(30);

/// When what was said last.
#[derive(Debug, Default)]
pub(super) struct Beats {
    connected: bool,
    due: Timestamp,
    said: Option<(NodeFacts, Timestamp)>,
    /// What became of the peers that the server asked about.
    probed: BTreeMap<NodeId, bool>,
}

impl Beats {
    pub(super) fn ask_facts(&mut self) {
        (self.said, self.due) = (None, Timestamp::default());
    }

    /// Has the next beat say at once whether peers answered.
    pub(super) fn probed(&mut self, answers: BTreeMap<NodeId, bool>) {
        self.probed.extend(answers);
        self.due = Timestamp::default();
    }
}

impl Agent {
    /// What it says to the server now.
    pub(super) fn speak(
        &mut self,
        host: &Host,
        connected: bool,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Vec<Message> {
        if connected && !self.beats.connected {
            self.ask_report();
        }
        self.beats.connected = connected;
        if !connected {
            return Vec::new();
        }
        let facts = self.facts(host);
        let is_known = self
            .beats
            .said
            .as_ref()
            .is_some_and(|(last, at)| *last == facts && now.since(*at) < FACTS_EVERY);
        let mut said = Vec::new();
        if now >= self.beats.due || !is_known {
            self.beats.due = now.plus(Duration::from_millis(250 * rng.between(7, 8)));
            let beat = self.beat(host, (!is_known).then(|| facts.clone()));
            said.push(Message::Beat(Box::new(beat)));
            if !is_known {
                self.beats.said = Some((facts, now));
            }
        }
        said.extend(self.report(host, now).map(|report| Message::Report(Box::new(report))));
        said
    }

    fn beat(&mut self, host: &Host, facts: Option<NodeFacts>) -> Heartbeat {
        Heartbeat {
            cluster: host.owner.cluster.clone(),
            node: host.owner.node.clone(),
            boot: format!("boot{}", host.boots),
            agent_start: self.start,
            applied: host.disk.as_ref().map(|held| held.generation).unwrap_or_default(),
            inventory: String::new(),
            facts,
            probed: std::mem::take(&mut self.beats.probed),
        }
    }

    fn facts(&self, host: &Host) -> NodeFacts {
        let knows_docker = self.containers.is_some() && self.trouble.is_none();
        NodeFacts {
            name: host.name.clone(),
            wg_pubkey: host.key(),
            mesh_ip: Some(host.mesh_ip),
            labels: host.labels.clone(),
            arch: "amd64".to_owned(),
            docker: knows_docker.then(|| "27.0".to_owned()),
            trouble: self.trouble.clone(),
            cpus: 4,
            memory: 4 << 30,
            disk: 100 << 30,
            images: host.engine.images.clone(),
            volumes: host.engine.volumes.clone(),
            unheard: host.unheard.clone(),
            ..NodeFacts::default()
        }
    }
}
