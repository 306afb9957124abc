//! What people do to a deployment that is there.

use knit_rpc::Timestamp;
use knit_rpc::api::Accepted;
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_rpc::spec::{Mode, REPLICAS_MAX};
use knit_runtime::clock;
use knit_server_core::access::Actor;
use knit_server_core::{Deployment, revise, secrets};

use super::super::bounds::problem;
use super::super::{App, AppError, World};
use super::{accepted, check_privileges, check_revision, no_deployment};

/// One thing that somebody wants of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// To this many replicas.
    Scale(u32),
    Restart,
    /// To this revision; to the last stable one that differs without it.
    Rollback(Option<u64>),
    Stop,
    Start,
    Pause,
    Resume,
    Promote,
    Abort,
}

impl App {
    /// Does it, or says why it cannot be done. A deployment that is so already is left alone.
    pub async fn change(
        &self,
        actor: &Actor,
        project: &ProjectName,
        name: &DeploymentName,
        change: Change,
        expected: Option<u64>,
    ) -> Result<Accepted, AppError> {
        let mut world = self.world().await;
        let Some(known) = world.snapshot.named(project, name).cloned() else {
            return Err(AppError::NotFound(no_deployment(project, name)));
        };
        check_revision(Some(&known), name, expected)?;
        let Some(mut after) = change.of(&known, clock::now())? else {
            return Ok(accepted(&known, true));
        };
        if let Change::Rollback(_) = change {
            check_privileges(actor, &after.spec)?;
            revive(&world, &mut after)?;
        }
        let accepted = accepted(&after, false);
        self.take(&mut world, Some(&known), after).await?;
        Ok(accepted)
    }
}

/// An earlier revision may name versions of secrets whose values are gone.
fn revive(world: &World, after: &mut Deployment) -> Result<(), AppError> {
    let spec = secrets::revived(&world.snapshot, after.spec.clone()).map_err(AppError::Invalid)?;
    if spec != after.spec {
        after.spec_hash = spec.instance.hash();
        if let Some(newest) = after.revisions.get_mut(&after.revision) {
            newest.spec = spec.clone();
            newest.spec_hash = after.spec_hash.clone();
        }
        after.spec = spec;
    }
    Ok(())
}

impl Change {
    /// The deployment with the change; `None` when it is so already.
    fn of(self, known: &Deployment, now: Timestamp) -> Result<Option<Deployment>, AppError> {
        let changed = match self {
            Self::Scale(replicas) => {
                check_replicas(known, replicas)?;
                if replicas == known.spec.replicas {
                    return Ok(None);
                }
                Ok(revise::scale(known, replicas, now))
            }
            Self::Restart => Ok(revise::restart(known, now)),
            Self::Rollback(to) => revise::rollback(known, to, false, now),
            Self::Stop if known.stopped => return Ok(None),
            Self::Stop => Ok(revise::stop(known, now)),
            Self::Start if !known.stopped => return Ok(None),
            Self::Start => Ok(revise::start(known, now)),
            Self::Pause => revise::pause(known),
            Self::Resume => revise::resume(known, now),
            Self::Promote => revise::promote(known, now),
            Self::Abort => revise::abort(known, now),
        };
        changed.map(Some).map_err(AppError::Conflict)
    }
}

fn check_replicas(known: &Deployment, replicas: u32) -> Result<(), AppError> {
    if replicas > REPLICAS_MAX {
        let message = format!("is {replicas}; at most {REPLICAS_MAX} are possible");
        let fields = vec![problem("replicas", &message)];
        return Err(AppError::Fields { what: "scale", fields });
    }
    if known.spec.mode == Mode::EveryNode {
        return Err(AppError::Conflict(format!(
            "{} runs on every node: it has as many instances as there are nodes for it",
            known.spec.name
        )));
    }
    Ok(())
}
