//! Seals to a node what its instances get, and writes down which node got which version.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use knit_rpc::audit::AuditFact;
use knit_rpc::id::{NodeId, ProjectName, SecretName};
use knit_rpc::message::{NodeAssignment, SealedSecret, secret_purpose};
use knit_rpc::sealed_box::SealingKey;
use knit_runtime::clock;
use knit_server_core::Node;

use super::super::{App, AppError};

type Version = (ProjectName, SecretName, u64);

/// Which node was sent which version in this life of the server.
#[derive(Default)]
pub(crate) struct Delivered(Mutex<BTreeSet<(NodeId, Version)>>);

impl Delivered {
    /// Takes note; whether it is news.
    fn note(&self, node: &NodeId, version: &Version) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((node.clone(), version.clone()))
    }
}

impl App {
    /// Puts the boxes into an assignment that is about to be sent. What cannot be opened stays
    /// out: the node goes on with what it has, and says what it lacks.
    pub(crate) async fn seal_secrets(
        &self,
        assignment: &mut NodeAssignment,
        node: &Node,
    ) -> Result<(), AppError> {
        let versions = versions(assignment);
        let Some(key) = node.sealing_key.as_ref().filter(|_| !versions.is_empty()) else {
            return Ok(());
        };
        for version in versions {
            match self.sealed_to(key, &version).await {
                Ok(Some(sealed)) => {
                    assignment.secrets.push(sealed);
                    self.note_delivery(node, &version).await;
                }
                Ok(None) => said(node, &version, "its value is not known here"),
                Err(AppError::NotYet(why)) => said(node, &version, &why),
                // A damaged one keeps nothing else from the node.
                Err(AppError::Internal(error)) => said(node, &version, &error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn sealed_to(
        &self,
        key: &SealingKey,
        (project, name, version): &Version,
    ) -> Result<Option<SealedSecret>, AppError> {
        let Some(value) = self.open_secret(project, name, *version).await? else {
            return Ok(None);
        };
        let sealed = key
            .seal(&secret_purpose(project, name, *version), &value)
            .map_err(|error| AppError::Internal(Box::new(error)))?;
        let (project, name) = (project.clone(), name.clone());
        Ok(Some(SealedSecret { project, name, version: *version, sealed }))
    }

    async fn note_delivery(&self, node: &Node, version: &Version) {
        if !self.delivered.note(&node.id, version) {
            return;
        }
        let (project, name, number) = version;
        self.note(AuditFact {
            at: clock::now(),
            actor: format!("node {} ({})", node.name(), node.id),
            origin: node.mesh_ip().map(|ip| ip.to_string()).unwrap_or_default(),
            action: "got a secret".to_owned(),
            subject: format!("secret {project}/{name} version {number}"),
            status: 200,
            request_id: String::new(),
        })
        .await;
    }
}

fn versions(assignment: &NodeAssignment) -> BTreeSet<Version> {
    let of = |(project, name, version): (&ProjectName, &SecretName, &u64)| {
        (project.clone(), name.clone(), *version)
    };
    let instances = assignment.instances.iter();
    instances
        .flat_map(|one| one.secrets.iter().map(|(name, version)| (&one.project, name, version)))
        .map(of)
        .collect()
}

fn said(node: &Node, (project, name, version): &Version, why: &str) {
    tracing::error!(
        node.id = %node.id, %project, secret = %name, version,
        "a secret cannot be sent to its node: {why}"
    );
}
