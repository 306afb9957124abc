//! Does what was decided: actions of one instance in order, instances side by side.
//!
//! Invariant: nothing here decides. A job that was overtaken by a newer assignment is dropped
//! where it stands; what it left behind is found by its labels.

mod beside;
mod host_paths;
mod pull;
mod secrets;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use knit_agent_core::action::GivenUp;
use knit_agent_core::container;
use knit_agent_core::health::DEAD_GRACE;
use knit_agent_core::observed::Step;
use knit_agent_core::probe::{Answer, Question, Run};
use knit_agent_core::template::NodeContext;
use knit_agent_core::{Action, Owner, Wanted};
use knit_rpc::id::InstanceId;
use knit_rpc::message::PullProgress;
use knit_rpc::spec::NodePolicy;
use knit_runtime::error::sentence;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::engine::{Engine, EngineError};
use crate::files::Files;
use crate::images::Images;
use crate::last_assignment::Assignment;
use crate::registry::Registries;

/// Instances that something is done for at once, at most.
const JOBS_MAX: usize = 8;
/// Pulls at once, at most; one that hangs keeps nothing else waiting.
const PULLS_MAX: usize = 4;
/// Containers stopped at once, at most. Most of a stop is waiting for a container that may ignore
/// it: that must not keep others from being started.
const STOPS_MAX: usize = 64;
/// Reports that wait for the loop.
pub const REPORTS_MAX: usize = 256;
/// A pull says how far it is this often, at most.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

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
    Pulled(InstanceId, PullProgress),
    Answered(Question, Answer),
    /// What an instance wrote last in a run.
    LastWords(InstanceId, Run, Vec<String>),
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
    images: Images,
    policy: NodePolicy,
    registries: Registries,
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
        images: Images,
        policy: NodePolicy,
        registries: Registries,
        reports: mpsc::Sender<Report>,
        assignment: watch::Receiver<Option<Assignment>>,
    ) -> Self {
        Self {
            engine,
            files,
            images,
            policy,
            registries,
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

    /// What is made for one instance is made in one go: the first of many is soon up.
    async fn run_all(&self, job: &Job) -> Result<(), Failure> {
        let mut permit: Option<SemaphorePermit<'_>> = None;
        for action in &job.actions {
            match action {
                Action::Pull { instance, image } => {
                    permit = None;
                    self.pull(job, instance, image).await?;
                }
                Action::Stop { container, .. } => {
                    permit = None;
                    self.stop(&job.instance, container, None).await?;
                }
                Action::GiveUp { container, why, reason, .. } => {
                    permit = None;
                    tracing::warn!(instance.id = %job.instance, container, "given up: {reason}");
                    self.stop(&job.instance, container, grace(job, *why)).await?;
                }
                Action::Publish(_)
                | Action::WriteFiles { .. }
                | Action::RefreshSecrets { .. }
                | Action::EnsureNetwork { .. }
                | Action::EnsureVolume { .. }
                | Action::RemoveNetwork(_)
                | Action::RemoveVolume(_)
                | Action::Create { .. }
                | Action::Start { .. }
                | Action::Remove { .. }
                | Action::RemoveFiles { .. }
                | Action::Fail { .. } => {
                    if permit.is_none() {
                        let Ok(granted) = self.jobs.acquire().await else { return Ok(()) };
                        permit = Some(granted);
                    }
                    self.run_one(action, job).await?;
                }
            }
        }
        Ok(())
    }

    async fn run_one(&self, action: &Action, job: &Job) -> Result<(), Failure> {
        let id = &job.instance;
        match (action, &job.wanted) {
            (Action::WriteFiles { .. }, Some(wanted)) => {
                self.step(id, Step::Starting).await;
                self.files
                    .write(&job.node, wanted)
                    .map_err(|error| Failure::of_files(&error, error.is_permanent()))?;
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
                let mut plan = container::plan(&job.owner, wanted, &self.files.directory(id));
                plan.host_mounts = host_paths::resolve(&plan.host_mounts, &self.policy)?;
                self.add_secrets(&mut plan, wanted)?;
                self.engine.create(&plan).await?;
                tracing::info!(instance.id = %id, image = plan.image, container = plan.name, "created");
            }
            (Action::RefreshSecrets { container, signals, .. }, Some(wanted)) => {
                self.refresh(id, wanted, container, signals).await?;
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
            (
                Action::WriteFiles { .. } | Action::Create { .. } | Action::RefreshSecrets { .. },
                None,
            )
            | (
                Action::Pull { .. }
                | Action::Stop { .. }
                | Action::GiveUp { .. }
                | Action::Publish(_)
                | Action::RemoveNetwork(_)
                | Action::RemoveVolume(_)
                | Action::Fail { .. },
                _,
            ) => {}
        }
        Ok(())
    }

    async fn pull(&self, job: &Job, instance: &InstanceId, image: &str) -> Result<(), Failure> {
        let Ok(_permit) = self.pulls.acquire().await else { return Ok(()) };
        self.step(instance, Step::Pulling).await;
        tracing::info!(instance.id = %instance, image, "pulling");
        let before = self.engine.image_id(image).await?;
        let told: Mutex<Option<Instant>> = Mutex::new(None);
        let progress = |progress: PullProgress| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY) {
                *told = Some(Instant::now());
                // A loop that is behind has more to do than to hear of this.
                let _ = self.reports.try_send(Report::Pulled(instance.clone(), progress));
            }
        };
        self.sign_in_and_pull(job, image, &progress).await?;
        // What was here already is not ours to collect.
        if let Some(id) =
            self.engine.image_id(image).await?.filter(|id| before.as_ref() != Some(id))
        {
            self.images.pulled(image, id);
        }
        Ok(())
    }

    async fn stop(
        &self,
        instance: &InstanceId,
        container: &str,
        grace: Option<Duration>,
    ) -> Result<(), Failure> {
        let Ok(_permit) = self.stops.acquire().await else { return Ok(()) };
        self.engine.stop(container, grace).await?;
        tracing::info!(instance.id = %instance, container, "stopped");
        Ok(())
    }

    async fn step(&self, instance: &InstanceId, step: Step) {
        let _ = self.reports.send(Report::Step(instance.clone(), step)).await;
    }
}

/// How long a container that is given up has to end by itself, when not as long as it says.
fn grace(job: &Job, why: GivenUp) -> Option<Duration> {
    let own = job.wanted.as_ref().and_then(|wanted| wanted.spec.stop_grace);
    let is_short = own.is_none() && why == GivenUp::Dead;
    is_short.then(|| DEAD_GRACE.duration())
}
