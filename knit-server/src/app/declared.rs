//! Deployments that files on the server's host declare.
//!
//! Who writes there is root on this host, yet what a file may have is what an operator may.

use knit_rpc::Timestamp;
use knit_rpc::access::{Role, Scope};
use knit_rpc::api::Cause;
use knit_rpc::audit::AuditFact;
use knit_rpc::spec::DeploymentSpec;
use knit_runtime::clock;
use knit_server_core::access::Actor;
use knit_server_core::adoption::HOLD;
use knit_server_core::{Deployment, Snapshot, revise};

use super::deployments::{check_privileges, new_id, resolved};
use super::{App, AppError};
use crate::store;
use crate::store::declared::Named;

/// Who the audit names.
const ACTOR: &str = "declared";
/// Where the audit says that it came from.
const ORIGIN: &str = "file";

/// What became of a declared deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is so already.
    Same,
    /// It is a new revision now.
    Applied { revision: u64 },
    /// It was tried as this revision, and given up: it waits for another file.
    GivenUp { revision: u64 },
}

impl App {
    /// Has a deployment as a file declares it. Its project is made when it is missing.
    pub async fn declare(&self, file: &str, spec: DeploymentSpec) -> Result<Outcome, AppError> {
        let actor = Actor { name: ACTOR.to_owned(), role: Role::Operator, scope: Scope::All };
        let project = spec.project.clone();
        let now = clock::now();
        let mut world = self.world().await;
        not_before_nodes_showed(&world.snapshot, now)?;
        if world.check_project(&project).is_err() {
            drop(world);
            self.create_project(&project).await?;
            self.note_declared(file, format!("project {project}")).await;
            world = self.world().await;
        }
        let spec = resolved(&world, spec)?;
        check_privileges(&actor, spec.get())?;
        let spec = spec.into_inner();
        // First, so that a file which goes is noticed whenever this program ends.
        let mut write = self.store.begin().await?;
        store::declared::put(&mut write, &(project, spec.name.clone()), file).await?;
        store::commit(write).await?;

        let known = world.snapshot.named(&spec.project, &spec.name).cloned();
        let declared = match &known {
            Some(known) if known.spec == spec => return Ok(Outcome::Same),
            Some(known) => {
                if let Some(revision) = revise::given_up(known, &spec) {
                    return Ok(Outcome::GivenUp { revision });
                }
                revise::next(known, spec, Cause::Deploy, now)
            }
            None => {
                let first = revise::first(new_id()?, spec, now);
                // Nodes that were forgotten, or have not shown yet what they hold, run it perhaps.
                let nodes = &world.snapshot.nodes;
                let forgot = nodes.is_empty() || nodes.values().any(|node| node.adopting);
                Deployment { hold_until: forgot.then(|| now.plus(HOLD)), ..first }
            }
        };
        let (revision, name) = (declared.revision, declared.spec.name.clone());
        let subject = format!("{}/{name} revision {revision}", declared.spec.project);
        self.take(&mut world, known.as_ref(), declared).await?;
        drop(world);
        tracing::info!(file, deployment.name = %name, deployment.revision = revision, "declared");
        self.note_declared(file, subject).await;
        Ok(Outcome::Applied { revision })
    }

    /// What was declared by one of those files that are no more and is not declared by another.
    /// Each is told of once.
    pub async fn no_longer_declared(
        &self,
        is_there: impl Fn(&str) -> bool,
    ) -> Result<Vec<(Named, String)>, AppError> {
        let mut gone = Vec::new();
        for (named, file) in self.store.declared().await? {
            if is_there(&file) {
                continue;
            }
            let mut write = self.store.begin().await?;
            store::declared::remove(&mut write, &named).await?;
            store::commit(write).await?;
            if self.world().await.snapshot.named(&named.0, &named.1).is_some() {
                gone.push((named, file));
            }
        }
        Ok(gone)
    }

    async fn note_declared(&self, file: &str, subject: String) {
        self.note(AuditFact {
            at: clock::now(),
            actor: ACTOR.to_owned(),
            origin: ORIGIN.to_owned(),
            action: format!("apply {file}"),
            subject,
            status: 202,
            request_id: String::new(),
        })
        .await;
    }
}

/// A restored server may know an older revision than its nodes run: what differs from that says
/// nothing yet. Only so long, because a node that is no more never shows anything.
fn not_before_nodes_showed(snapshot: &Snapshot, now: Timestamp) -> Result<(), AppError> {
    let awaited = snapshot.nodes.values().filter(|node| node.adopting).count();
    if awaited == 0 || now >= snapshot.started.plus(HOLD) {
        return Ok(());
    }
    Err(AppError::NotYet(format!(
        "waits until nodes have shown what they run ({awaited} of {} have not), for {} s at most",
        snapshot.nodes.len(),
        HOLD.as_secs()
    )))
}
