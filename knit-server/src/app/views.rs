//! What the API shows.

use knit_rpc::api::{
    DeploymentView, InstanceView, NodeView, RevisionView, RolloutView, WhyNot, WhyView,
};
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_runtime::clock;
use knit_server_core::{Deployment, explain, preview, status};

use super::deployments::no_deployment;
use super::{App, AppError, World};

impl App {
    /// Deployments by project and name; those being removed while their name is not in use again.
    pub async fn deployments(&self, project: Option<&ProjectName>) -> Vec<DeploymentView> {
        let world = self.world().await;
        let mut found: Vec<DeploymentView> = world
            .snapshot
            .deployments
            .values()
            .filter(|deployment| project.is_none_or(|project| deployment.spec.project == *project))
            .filter(|deployment| shown(&world, deployment))
            .map(|deployment| view(&world, deployment))
            .collect();
        found.sort_by(|a, b| (&a.project, &a.name).cmp(&(&b.project, &b.name)));
        found
    }

    /// One deployment, or what is left of it while it is being removed.
    pub async fn deployment(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
    ) -> Result<DeploymentView, AppError> {
        let world = self.world().await;
        world
            .snapshot
            .deployments
            .values()
            .filter(|deployment| {
                deployment.spec.project == *project && deployment.spec.name == *name
            })
            .find(|deployment| shown(&world, deployment))
            .map(|deployment| view(&world, deployment))
            .ok_or_else(|| AppError::NotFound(no_deployment(project, name)))
    }

    /// The remembered revisions of a deployment, the newest first.
    pub async fn history(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
    ) -> Result<Vec<RevisionView>, AppError> {
        let world = self.world().await;
        Ok(preview::history(named(&world, project, name)?))
    }

    /// The newest rollout of a deployment, under way or ended.
    pub async fn rollout(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
    ) -> Result<RolloutView, AppError> {
        let world = self.world().await;
        let deployment = named(&world, project, name)?;
        status::rollout(&world.snapshot, &world.verdicts, deployment)
            .ok_or_else(|| AppError::NotFound(format!("there never was a rollout of {name}")))
    }

    /// Why each slot, or one, is where it is.
    pub async fn why(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
        slot: Option<u32>,
    ) -> Result<WhyView, AppError> {
        let world = self.world().await;
        let deployment = named(&world, project, name)?;
        let unplaced = world.unplaced.get(&deployment.id).map_or(&[][..], Vec::as_slice);
        let (snapshot, verdicts) = (&world.snapshot, &world.verdicts);
        if let Some(slot) = slot
            && slot >= deployment.spec.replicas
            && snapshot.instances.of_slot(&deployment.id, slot).next().is_none()
        {
            return Err(AppError::NotFound(format!("deployment {name} has no slot {slot}")));
        }
        Ok(explain::why(snapshot, verdicts, deployment, slot, unplaced, clock::now()))
    }

    /// All that keeps a node from running a deployment.
    pub async fn why_not(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
        node: &str,
    ) -> Result<WhyNot, AppError> {
        let world = self.world().await;
        let deployment = named(&world, project, name)?;
        let node = super::nodes::named(&world, node)?;
        Ok(explain::why_not(&world.snapshot, &world.verdicts, deployment, &node))
    }

    pub async fn nodes(&self) -> Vec<NodeView> {
        let world = self.world().await;
        let views = status::nodes(&world.snapshot, &world.verdicts, &world.mesh);
        status::with_asking(views, world.asking.values())
    }

    pub async fn instances(&self) -> Vec<InstanceView> {
        status::instances(&self.world().await.snapshot)
    }
}

fn named<'a>(
    world: &'a World,
    project: &ProjectName,
    name: &DeploymentName,
) -> Result<&'a Deployment, AppError> {
    let found = world.snapshot.named(project, name);
    found.ok_or_else(|| AppError::NotFound(no_deployment(project, name)))
}

/// Of the lives of one name: the present one, else the one removed last.
fn shown(world: &World, deployment: &Deployment) -> bool {
    let Some(removed_at) = deployment.removed_at else { return true };
    let spec = &deployment.spec;
    !world.snapshot.deployments.values().any(|other| {
        other.id != deployment.id
            && other.spec.project == spec.project
            && other.spec.name == spec.name
            && other.removed_at.is_none_or(|at| (at, &other.id) > (removed_at, &deployment.id))
    })
}

fn view(world: &World, deployment: &Deployment) -> DeploymentView {
    let unplaced = world.unplaced.get(&deployment.id).map_or(&[][..], Vec::as_slice);
    status::deployment(&world.snapshot, &world.verdicts, deployment, unplaced)
}
