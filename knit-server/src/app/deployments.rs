//! Deploying and undeploying.

use knit_rpc::api::Accepted;
use knit_rpc::event::EventKind;
use knit_rpc::id::{DeploymentId, DeploymentName, ProjectName};
use knit_rpc::message::Phase;
use knit_rpc::spec::DeploymentSpec;
use knit_runtime::clock;
use knit_server_core::validate::{ValidSpec, validate};
use knit_server_core::{Deployment, Instance, Snapshot};

use super::{App, AppError, World};
use crate::store;

impl App {
    /// Takes a deployment in: a new revision, or the one that is there when nothing differs.
    ///
    /// With `expected` the newest revision must be that one (0: none), or somebody was faster.
    pub async fn submit(
        &self,
        spec: DeploymentSpec,
        expected: Option<u64>,
    ) -> Result<Accepted, AppError> {
        let spec = validate(spec).map_err(AppError::Invalid)?;
        let mut world = self.world().await;
        let known = world.snapshot.named(&spec.get().project, &spec.get().name).cloned();
        let revision = known.as_ref().map_or(0, |known| known.revision);
        if let Some(expected) = expected.filter(|expected| *expected != revision) {
            return Err(AppError::Conflict(format!(
                "deployment {} is at revision {revision}, not at {expected}: somebody else \
                 deployed it meanwhile; look at it and deploy again",
                spec.get().name
            )));
        }
        match known {
            Some(known) if known.spec == *spec.get() && known.hold_until.is_none() => {
                self.try_again(&mut world, &known).await
            }
            known => self.revise(&mut world, known, spec).await,
        }
    }

    /// Removes a deployment; its name is free at once. Returns whether anything ran.
    pub async fn remove(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
    ) -> Result<bool, AppError> {
        let mut world = self.world().await;
        let Some(mut deployment) = world.snapshot.named(project, name).cloned() else {
            return Err(AppError::NotFound(no_deployment(project, name)));
        };
        let now = clock::now();
        deployment.removed_at = Some(now);
        let mut write = self.store.begin().await?;
        store::deployments::put(&mut write, &deployment).await?;
        store::commit(write).await?;
        let ran = world.snapshot.instances.values().any(|i| i.deployment == deployment.id);
        world.mark(deployment.id.clone());
        world.snapshot.deployments.insert(deployment.id.clone(), deployment);
        let (project, deployment) = (project.clone(), name.clone());
        self.feed.tell(now, EventKind::DeploymentRemoved { project, deployment });
        self.wake_planner.notify_one();
        Ok(ran)
    }

    async fn revise(
        &self,
        world: &mut World,
        known: Option<Deployment>,
        spec: ValidSpec,
    ) -> Result<Accepted, AppError> {
        let now = clock::now();
        let spec = spec.into_inner();
        let deployment = Deployment {
            id: match &known {
                Some(known) => known.id.clone(),
                None => new_id()?,
            },
            revision: known.as_ref().map_or(1, |known| known.revision + 1),
            spec_hash: spec.instance.hash(),
            created_at: known.as_ref().map_or(now, |known| known.created_at),
            updated_at: now,
            removed_at: None,
            hold_until: None,
            stopped: false,
            restart_floor: 0,
            stable: None,
            revisions: std::collections::BTreeMap::new(),
            rollout: None,
            spec,
        };
        let mut write = self.store.begin().await?;
        store::deployments::put(&mut write, &deployment).await?;
        store::commit(write).await?;
        let accepted = accepted(&deployment, false);
        self.changed(world, &deployment);
        world.snapshot.specs.insert(deployment.spec_hash.clone(), deployment.spec.instance.clone());
        world.snapshot.deployments.insert(deployment.id.clone(), deployment);
        Ok(accepted)
    }

    /// Nothing differs: what failed is tried again, the rest is left alone.
    async fn try_again(
        &self,
        world: &mut World,
        deployment: &Deployment,
    ) -> Result<Accepted, AppError> {
        let failed = failed(&world.snapshot, deployment);
        if !failed.is_empty() {
            let mut write = self.store.begin().await?;
            for instance in &failed {
                store::deployments::put_instance(&mut write, instance).await?;
            }
            store::commit(write).await?;
            for instance in failed {
                world.snapshot.instances.insert(instance);
            }
            self.changed(world, deployment);
        }
        Ok(accepted(deployment, true))
    }

    fn changed(&self, world: &mut World, deployment: &Deployment) {
        world.mark(deployment.id.clone());
        self.feed.tell(
            clock::now(),
            EventKind::DeploymentChanged {
                project: deployment.spec.project.clone(),
                deployment: deployment.spec.name.clone(),
                revision: deployment.revision,
            },
        );
        self.wake_planner.notify_one();
    }
}

/// The sentence for a name that nobody has.
pub fn no_deployment(project: &ProjectName, name: &DeploymentName) -> String {
    format!("there is no deployment {name} in project {project}")
}

fn failed(snapshot: &Snapshot, deployment: &Deployment) -> Vec<Instance> {
    snapshot
        .instances
        .values()
        .filter(|instance| instance.deployment == deployment.id && !instance.retry)
        .filter(|instance| instance.spec == deployment.spec_hash)
        .filter(|instance| snapshot.phase_of(instance) == Phase::Failed)
        .map(|instance| Instance { retry: true, ..instance.clone() })
        .collect()
}

fn accepted(deployment: &Deployment, unchanged: bool) -> Accepted {
    Accepted {
        project: deployment.spec.project.clone(),
        name: deployment.spec.name.clone(),
        revision: deployment.revision,
        unchanged,
    }
}

fn new_id() -> Result<DeploymentId, AppError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| AppError::Internal(Box::new(error)))?;
    Ok(DeploymentId::from_bytes(bytes))
}
