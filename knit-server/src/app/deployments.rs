//! Deploying, changing and undeploying.

mod change;

use knit_rpc::api::{Accepted, PlanView};
use knit_rpc::event::EventKind;
use knit_rpc::id::{DeploymentId, DeploymentName, ProjectName};
use knit_rpc::message::Phase;
use knit_rpc::spec::DeploymentSpec;
use knit_runtime::clock;
use knit_server_core::access::{Action, Actor, Resource, allowed};
use knit_server_core::validate::{ValidSpec, validate};
use knit_server_core::{
    Deployment, Instance, Snapshot, networks, preview, revise, secrets, volumes,
};

pub use change::Change;

use super::volumes::Removal;
use super::{App, AppError, World};
use crate::store;

impl App {
    /// Takes a deployment in: a new revision, or the one that is there when nothing differs.
    ///
    /// With `expected` the newest revision must be that one (0: none), or somebody was faster.
    pub async fn submit(
        &self,
        actor: &Actor,
        spec: DeploymentSpec,
        expected: Option<u64>,
    ) -> Result<Accepted, AppError> {
        let mut world = self.world().await;
        let spec = resolved(&world, spec)?;
        check_privileges(actor, spec.get())?;
        let known = world.snapshot.named(&spec.get().project, &spec.get().name).cloned();
        check_revision(known.as_ref(), &spec.get().name, expected)?;
        match known {
            Some(known) if known.spec == *spec.get() && known.hold_until.is_none() => {
                self.try_again(&mut world, &known).await
            }
            known => self.revise(&mut world, known.as_ref(), spec).await,
        }
    }

    /// What submitting would lead to; nothing is done.
    pub async fn plan_only(
        &self,
        spec: DeploymentSpec,
        expected: Option<u64>,
    ) -> Result<PlanView, AppError> {
        let world = self.world().await;
        let spec = resolved(&world, spec)?.into_inner();
        check_revision(world.snapshot.named(&spec.project, &spec.name), &spec.name, expected)?;
        Ok(preview::submit(&world.snapshot, &world.verdicts, &spec, new_id()?, clock::now()))
    }

    /// Removes a deployment, with the data that only it uses if so wanted; its name is free at
    /// once. Returns whether anything ran.
    pub async fn remove(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
        with_volumes: bool,
        expected: Option<u64>,
    ) -> Result<bool, AppError> {
        let mut world = self.world().await;
        let Some(mut deployment) = world.snapshot.named(project, name).cloned() else {
            return Err(AppError::NotFound(no_deployment(project, name)));
        };
        check_revision(Some(&deployment), name, expected)?;
        let now = clock::now();
        let own = with_volumes.then(|| volumes::only_of(&world.snapshot, &deployment.id));
        let removal = Removal::of(&world.snapshot, own.into_iter().flatten());
        deployment.removed_at = Some(now);
        let mut write = self.store.begin().await?;
        store::deployments::put(&mut write, &deployment).await?;
        removal.store(&mut write).await?;
        store::commit(write).await?;
        removal.apply(&mut world);
        let ran = world.snapshot.instances.values().any(|i| i.deployment == deployment.id);
        world.put(deployment);
        let (project, deployment) = (project.clone(), name.clone());
        self.feed.tell(now, EventKind::DeploymentRemoved { project, deployment });
        self.wake_planner.notify_one();
        self.wake_publisher.notify_one();
        Ok(ran)
    }

    async fn revise(
        &self,
        world: &mut World,
        known: Option<&Deployment>,
        spec: ValidSpec,
    ) -> Result<Accepted, AppError> {
        let now = clock::now();
        let spec = spec.into_inner();
        let deployment = match known {
            Some(known) => revise::next(known, spec, knit_rpc::api::Cause::Deploy, now),
            None => revise::first(new_id()?, spec, now),
        };
        let accepted = accepted(&deployment, false);
        self.take(world, known, deployment).await?;
        Ok(accepted)
    }

    /// Stores what became of a deployment, and has it planned.
    pub(super) async fn take(
        &self,
        world: &mut World,
        before: Option<&Deployment>,
        after: Deployment,
    ) -> Result<(), AppError> {
        let mut write = self.store.begin().await?;
        store::deployments::put(&mut write, &after).await?;
        store::commit(write).await?;
        self.tell_deployment(before, &after, clock::now());
        world.put(after);
        self.wake_planner.notify_one();
        Ok(())
    }

    /// Nothing differs: what failed is tried again, what was stopped starts, the rest is left alone.
    async fn try_again(
        &self,
        world: &mut World,
        deployment: &Deployment,
    ) -> Result<Accepted, AppError> {
        if deployment.stopped {
            let started = revise::start(deployment, clock::now());
            self.take(world, Some(deployment), started).await?;
            return Ok(accepted(deployment, true));
        }
        let failed = failed(&world.snapshot, deployment);
        let again = revise::again(deployment, clock::now());
        if !failed.is_empty() || again.is_some() {
            let mut write = self.store.begin().await?;
            for instance in &failed {
                store::deployments::put_instance(&mut write, instance).await?;
            }
            if let Some(again) = &again {
                store::deployments::put(&mut write, again).await?;
            }
            store::commit(write).await?;
            for instance in failed {
                world.snapshot.instances.insert(instance);
            }
            if let Some(again) = again {
                self.tell_deployment(Some(deployment), &again, clock::now());
                world.put(again);
            } else {
                world.mark(deployment.id.clone());
                self.tell_changed(deployment, clock::now());
            }
            self.wake_planner.notify_one();
        }
        Ok(accepted(deployment, true))
    }
}

/// The spec with what its project adds to it, if all that it names is there.
pub(super) fn resolved(world: &World, spec: DeploymentSpec) -> Result<ValidSpec, AppError> {
    world.check_project(&spec.project).map_err(|problem| AppError::Invalid(vec![problem]))?;
    let spec = networks::resolve(&world.snapshot, spec);
    let spec = secrets::resolve(&world.snapshot, spec).map_err(AppError::Invalid)?;
    validate(spec).map_err(AppError::Invalid)
}

/// What reaches into its host takes more than to deploy.
pub(super) fn check_privileges(actor: &Actor, spec: &DeploymentSpec) -> Result<(), AppError> {
    let privileges: Vec<String> = spec.instance.privileges().map(|one| one.to_string()).collect();
    if privileges.is_empty() {
        return Ok(());
    }
    allowed(actor, Action::DeployPrivileged, Resource::Project(&spec.project)).map_err(|denied| {
        AppError::Denied(format!("{denied}; {} would have {}", spec.name, privileges.join(", ")))
    })
}

/// The sentence for a name that nobody has.
pub fn no_deployment(project: &ProjectName, name: &DeploymentName) -> String {
    format!("there is no deployment {name} in project {project}")
}

/// Refuses when somebody was faster than who expects this revision (0: none).
fn check_revision(
    known: Option<&Deployment>,
    name: &DeploymentName,
    expected: Option<u64>,
) -> Result<(), AppError> {
    let revision = known.map_or(0, |known| known.revision);
    match expected {
        Some(expected) if expected != revision => Err(AppError::Conflict(format!(
            "deployment {name} is at revision {revision}, not at {expected}: somebody else \
             deployed it meanwhile; look at it and deploy again"
        ))),
        Some(_) | None => Ok(()),
    }
}

fn failed(snapshot: &Snapshot, deployment: &Deployment) -> Vec<Instance> {
    snapshot
        .instances
        .values()
        .filter(|instance| instance.deployment == deployment.id && !instance.retry)
        .filter(|instance| instance.spec == deployment.spec_hash)
        .filter(|instance| matches!(snapshot.phase_of(instance), Phase::Failed | Phase::CrashLoop))
        .map(|instance| Instance { retry: true, ..instance.clone() })
        .collect()
}

fn accepted(deployment: &Deployment, unchanged: bool) -> Accepted {
    Accepted {
        project: deployment.spec.project.clone(),
        name: deployment.spec.name.clone(),
        revision: deployment.revision,
        unchanged,
        warnings: secrets::warnings(&deployment.spec.instance),
    }
}

pub(super) fn new_id() -> Result<DeploymentId, AppError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| AppError::Internal(Box::new(error)))?;
    Ok(DeploymentId::from_bytes(bytes))
}
