//! What is measured: Knit, by its API.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use knit_link::http::{ApiClient, EventStream};
use knit_rpc::api::RolloutState;
use knit_rpc::event::EventKind;
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_rpc::spec::Format;
use serde_json::json;
use tokio::time::timeout;

use crate::docker::{self, Docker};

const PATIENCE: Duration = Duration::from_mins(3);

pub(crate) struct Knit {
    client: ApiClient,
    project: ProjectName,
}

impl Knit {
    pub(crate) fn of_this_node() -> Self {
        let url = std::env::var("KNIT_SERVER").unwrap();
        Self { client: ApiClient::new(&url).unwrap(), project: ProjectName::default() }
    }

    /// Deploys, waits until all run, and removes it again. How long it took from the server's
    /// answer until all were known to run, and until Docker was asked to make each container.
    pub(crate) async fn run_and_remove(
        &self,
        name: &str,
        replicas: u32,
        docker: &Docker,
    ) -> (Duration, Vec<Duration>) {
        let mut events = self.client.events(None).await.unwrap();
        let accepted = self.deploy(name, replicas, 1).await;
        let accepted_at = knit_runtime::clock::now();
        self.until_running(&mut events, name, replicas).await;
        let took = accepted.elapsed();
        let created = docker.created(name).await.into_values();
        let waited = created.map(|at| at.saturating_sub(accepted_at.as_millis()));
        let waited = waited.map(Duration::from_millis).collect();
        self.remove(name, docker).await;
        (took, waited)
    }

    /// Deploys, deploys another revision, and removes it again. How long the second one took, from
    /// the server's answer to the end of its rollout.
    pub(crate) async fn roll(&self, name: &str, replicas: u32, docker: &Docker) -> Duration {
        let mut events = self.client.events(None).await.unwrap();
        self.deploy(name, replicas, 1).await;
        self.until_running(&mut events, name, replicas).await;
        self.until_rolled(&mut events, name, 1).await;
        let accepted = self.deploy(name, replicas, 2).await;
        self.until_rolled(&mut events, name, 2).await;
        let took = accepted.elapsed();
        self.remove(name, docker).await;
        took
    }

    /// When it was accepted.
    async fn deploy(&self, name: &str, replicas: u32, revision: u32) -> Instant {
        let manifest = json!({
            "name": name, "replicas": replicas, "image": docker::IMAGE,
            "command": docker::command(), "env": {"REVISION": revision.to_string()},
            "update": {"wave": 1, "bake": "0s", "drain": "0s"},
        });
        self.client.deploy(manifest.to_string(), Format::Json).await.unwrap();
        Instant::now()
    }

    async fn until_running(&self, events: &mut EventStream, name: &str, replicas: u32) {
        let mut running = BTreeSet::new();
        let all = async {
            while running.len() < usize::try_from(replicas).unwrap() {
                let event = events.next().await.unwrap().unwrap();
                if let EventKind::InstanceChanged { deployment, instance, phase, .. } = event.kind
                    && deployment.as_str() == name
                    && phase == "running"
                {
                    running.insert(instance);
                }
            }
        };
        timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{name} does not run"));
    }

    async fn until_rolled(&self, events: &mut EventStream, name: &str, revision: u64) {
        let known: DeploymentName = name.parse().unwrap();
        let ended = async {
            loop {
                let shown = self.client.deployment(&self.project, &known).await.unwrap();
                let rollout = shown.rollout.filter(|rollout| rollout.revision == revision);
                match rollout.map(|rollout| rollout.state) {
                    Some(RolloutState::Succeeded) => return,
                    Some(RolloutState::Failed) => panic!("{name} failed"),
                    Some(_) | None => {}
                }
                loop {
                    let event = events.next().await.unwrap().unwrap();
                    if matches!(event.kind, EventKind::RolloutChanged { .. }) {
                        break;
                    }
                }
            }
        };
        timeout(PATIENCE, ended).await.unwrap_or_else(|_| panic!("{name} is not rolled out"));
    }

    async fn remove(&self, name: &str, docker: &Docker) {
        let known: DeploymentName = name.parse().unwrap();
        self.client.undeploy(&self.project, &known).await.unwrap();
        let start = Instant::now();
        while !docker.created(name).await.is_empty() {
            assert!(start.elapsed() < PATIENCE, "{name} is still there");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
