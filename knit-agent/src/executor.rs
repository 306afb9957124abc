//! Does what was decided: actions of one instance in order, instances side by side.
//!
//! Invariant: nothing here decides. A job that was overtaken by a newer assignment is dropped
//! where it stands; what it left behind is found by its labels.

use std::sync::Arc;

use knit_agent_core::container;
use knit_agent_core::observed::Step;
use knit_agent_core::template::NodeContext;
use knit_agent_core::{Action, Owner, Wanted};
use knit_rpc::id::InstanceId;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::engine::{Engine, EngineError};
use crate::files::Files;
use crate::last_assignment::Assignment;

/// Instances that something is done for at once, at most.
const JOBS_MAX: usize = 8;
/// Pulls at once, at most; one that hangs keeps nothing else waiting.
const PULLS_MAX: usize = 4;
/// Containers stopped at once, at most. Most of a stop is waiting for a container that may ignore
/// it: that must not keep others from being started.
const STOPS_MAX: usize = 64;
/// Reports that wait for the loop.
pub const REPORTS_MAX: usize = 256;

/// What is to be done for one instance.
#[derive(Debug)]
pub struct Job {
    pub instance: InstanceId,
    /// None when it is to go.
    pub wanted: Option<Wanted>,
    pub owner: Owner,
    pub node: NodeContext,
    pub actions: Vec<Action>,
}

/// How a job goes.
#[derive(Debug)]
pub enum Report {
    Step(InstanceId, Step),
    /// All of the actions were done, or the first that failed ended the job.
    Done {
        instance: InstanceId,
        actions: Vec<Action>,
        failure: Option<Failure>,
    },
    /// Networks and volumes were cleared away, or not all of them.
    Tidied {
        failed: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    pub permanent: bool,
    /// Whether it says nothing about the instance: the engine did not answer at all.
    pub unreachable: bool,
}

impl Failure {
    fn of_files(error: &crate::files::FilesError, permanent: bool) -> Self {
        Self { message: sentence(error), permanent, unreachable: false }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self {
            permanent: error.is_permanent(),
            unreachable: matches!(error, EngineError::Unreachable { .. }),
            message: error.to_string(),
        }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    engine: Arc<dyn Engine>,
    files: Files,
    jobs: Arc<Semaphore>,
    pulls: Arc<Semaphore>,
    stops: Arc<Semaphore>,
    reports: mpsc::Sender<Report>,
    assignment: watch::Receiver<Option<Assignment>>,
    tasks: TaskTracker,
}

impl Executor {
    pub fn new(
        engine: Arc<dyn Engine>,
        files: Files,
        reports: mpsc::Sender<Report>,
        assignment: watch::Receiver<Option<Assignment>>,
    ) -> Self {
        Self {
            engine,
            files,
            jobs: Arc::new(Semaphore::new(JOBS_MAX)),
            pulls: Arc::new(Semaphore::new(PULLS_MAX)),
            stops: Arc::new(Semaphore::new(STOPS_MAX)),
            reports,
            assignment,
            tasks: TaskTracker::new(),
        }
    }

    /// Starts a job and returns at once.
    pub fn start(&self, job: Job) {
        let (executor, reports) = (self.clone(), self.reports.clone());
        let (instance, actions) = (job.instance.clone(), job.actions.clone());
        let running = self.tasks.spawn(async move { executor.run(job).await });
        self.tasks.spawn(async move {
            let failure = match running.await {
                Ok(failure) => failure,
                Err(error) => Some(Failure {
                    message: format!("the agent failed at it: {error}"),
                    permanent: true,
                    unreachable: false,
                }),
            };
            // The loop is gone only when the agent stops.
            let _ = reports.send(Report::Done { instance, actions, failure }).await;
        });
    }

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
            | Action::EnsureNetwork { .. }
            | Action::EnsureVolume { .. }
            | Action::Create { .. }
            | Action::Start { .. }
            | Action::Stop { .. }
            | Action::Remove { .. }
            | Action::RemoveFiles { .. }
            | Action::Fail { .. } => {}
        }
        Ok(())
    }

    async fn run(&self, job: Job) -> Option<Failure> {
        if job.wanted.is_none() {
            return self.run_all(&job).await.err();
        }
        tokio::select! {
            result = self.run_all(&job) => result.err(),
            () = self.unwanted(&job.instance) => None,
        }
    }

    /// Returns once no assignment wants the instance any more.
    async fn unwanted(&self, instance: &InstanceId) {
        let mut assignment = self.assignment.clone();
        let gone = assignment
            .wait_for(|held| {
                held.as_ref().is_some_and(|held| !held.desired.instances.contains_key(instance))
            })
            .await
            .is_ok();
        if !gone {
            std::future::pending::<()>().await;
        }
    }

    async fn run_all(&self, job: &Job) -> Result<(), Failure> {
        for action in &job.actions {
            self.run_one(action, job).await?;
        }
        Ok(())
    }

    async fn run_one(&self, action: &Action, job: &Job) -> Result<(), Failure> {
        if let Action::Pull { instance, image } = action {
            return self.pull(instance, image).await;
        }
        if let Action::Stop { instance, container } = action {
            return self.stop(instance, container).await;
        }
        let Ok(_permit) = self.jobs.acquire().await else { return Ok(()) };
        let id = &job.instance;
        match (action, &job.wanted) {
            (Action::WriteFiles { .. }, Some(wanted)) => {
                self.step(id, Step::Starting).await;
                self.files
                    .write(&job.node, wanted)
                    .map_err(|error| Failure::of_files(&error, true))?;
            }
            (Action::EnsureNetwork { network, .. }, _) => {
                self.step(id, Step::Starting).await;
                self.engine.ensure_network(network).await?;
            }
            (Action::EnsureVolume { volume, .. }, _) => {
                self.engine.ensure_volume(volume).await?;
            }
            (Action::Create { .. }, Some(wanted)) => {
                self.step(id, Step::Starting).await;
                let plan = container::plan(&job.owner, wanted, &self.files.directory(id));
                self.engine.create(&plan).await?;
                tracing::info!(instance.id = %id, image = plan.image, container = plan.name, "created");
            }
            (Action::Start { container, .. }, _) => {
                self.step(id, Step::Starting).await;
                self.engine.start(container).await?;
                tracing::info!(instance.id = %id, container, "started");
            }
            (Action::Remove { container, .. }, _) => {
                self.engine.remove(container).await?;
                tracing::info!(instance.id = %id, container, "removed");
            }
            (Action::RemoveFiles { .. }, _) => {
                self.files.remove(id).map_err(|error| Failure::of_files(&error, false))?;
            }
            (Action::WriteFiles { .. } | Action::Create { .. }, None)
            | (
                Action::Pull { .. }
                | Action::Stop { .. }
                | Action::Publish(_)
                | Action::RemoveNetwork(_)
                | Action::RemoveVolume(_)
                | Action::Fail { .. },
                _,
            ) => {}
        }
        Ok(())
    }

    async fn pull(&self, instance: &InstanceId, image: &str) -> Result<(), Failure> {
        let Ok(_permit) = self.pulls.acquire().await else { return Ok(()) };
        self.step(instance, Step::Pulling).await;
        tracing::info!(instance.id = %instance, image, "pulling");
        self.engine.pull(image, &|_| {}).await.map_err(|error| {
            let message = format!("image {image} cannot be pulled: {error}");
            Failure { message, ..Failure::from(error) }
        })
    }

    async fn stop(&self, instance: &InstanceId, container: &str) -> Result<(), Failure> {
        let Ok(_permit) = self.stops.acquire().await else { return Ok(()) };
        self.engine.stop(container).await?;
        tracing::info!(instance.id = %instance, container, "stopped");
        Ok(())
    }

    async fn step(&self, instance: &InstanceId, step: Step) {
        let _ = self.reports.send(Report::Step(instance.clone(), step)).await;
    }
}

/// The error with its causes, for people who see no log.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
