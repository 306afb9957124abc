//! What is done beside the jobs: clearing away, asking, reading logs. Each is reported when done.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use knit_agent_core::probe::{Answer, Question, Run};
use knit_agent_core::{Action, Owner};
use knit_rpc::id::InstanceId;
use knit_rpc::message::LOG_LINES_MAX;
use tokio::time::timeout;

use super::{Executor, Report, sentence};
use crate::engine::EngineError;

/// Reading the last lines of a log may take this long; then there are none.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
/// A probe's own limit is kept by the engine; this is for an engine that does not.
const PROBE_SLACK: Duration = Duration::from_secs(1);

impl Executor {
    /// Starts to clear away what no instance needs, one after the other, and returns at once.
    pub fn tidy(&self, owner: Owner, actions: Vec<Action>) {
        let executor = self.clone();
        self.tasks.spawn(async move {
            let mut failed = false;
            for action in &actions {
                if let Err(error) = executor.tidy_one(&owner, action).await {
                    tracing::warn!(?action, cause = sentence(&error), "cannot be cleared away");
                    failed = true;
                }
            }
            let _ = executor.reports.send(Report::Tidied { failed }).await;
        });
    }

    async fn tidy_one(&self, owner: &Owner, action: &Action) -> Result<(), EngineError> {
        match action {
            Action::RemoveNetwork(name) => {
                self.engine.remove_network(owner, name).await?;
                tracing::info!(network = name, "removed a network that no instance joins");
            }
            Action::RemoveVolume(name) => {
                self.engine.remove_volume(owner, name).await?;
                tracing::info!(volume = %name, "removed a volume as asked");
            }
            Action::Publish(_)
            | Action::Pull { .. }
            | Action::WriteFiles { .. }
            | Action::RefreshSecrets { .. }
            | Action::EnsureNetwork { .. }
            | Action::EnsureVolume { .. }
            | Action::Create { .. }
            | Action::Start { .. }
            | Action::Stop { .. }
            | Action::GiveUp { .. }
            | Action::Remove { .. }
            | Action::RemoveFiles { .. }
            | Action::Fail { .. } => {}
        }
        Ok(())
    }

    /// Asks a container a question and returns at once; the answer is reported.
    pub fn ask(&self, question: Question, address: Option<Ipv4Addr>) {
        let (engine, reports) = (Arc::clone(&self.engine), self.reports.clone());
        self.tasks.spawn(async move {
            let (kind, limit) = (&question.probe.kind, question.probe.timeout.duration());
            let asking = engine.probe(&question.run.container, address, kind, limit);
            let late = || Answer::Ill(format!("no answer within {} ms", limit.as_millis()));
            let answer = timeout(limit + PROBE_SLACK, asking).await.unwrap_or_else(|_| late());
            let _ = reports.send(Report::Answered(question, answer)).await;
        });
    }

    /// Reads what an instance wrote last, and returns at once; it is reported.
    pub fn last_words(&self, instance: InstanceId, run: Run) {
        let (engine, reports) = (Arc::clone(&self.engine), self.reports.clone());
        self.tasks.spawn(async move {
            let reading = engine.log_tail(&run.container, LOG_LINES_MAX);
            let lines = match timeout(LAST_WORDS_MAX, reading).await {
                Ok(Ok(lines)) => lines,
                Ok(Err(error)) => {
                    tracing::debug!(instance.id = %instance, %error, "its log was not read");
                    Vec::new()
                }
                Err(_) => Vec::new(),
            };
            let _ = reports.send(Report::LastWords(instance, run, lines)).await;
        });
    }
}
