//! Rows of deployments, and of the instances that were decided for them.

mod revisions;

use std::collections::BTreeMap;

use knit_rpc::Timestamp;
use knit_rpc::id::{DeploymentId, InstanceId, SpecHash};
use knit_rpc::spec::InstanceSpec;
use knit_server_core::instances::Instances;
use knit_server_core::{Deployment, Instance};

use super::{Store, StoreError, Write, from_json, int, moment, parsed, small, to_json, uint};

/// Stores a deployment whole: what is not among its revisions any more is forgotten.
pub async fn put(write: &mut Write, deployment: &Deployment) -> Result<(), StoreError> {
    let rollout =
        deployment.rollout.as_ref().map(|rollout| to_json("rollout", rollout)).transpose()?;
    sqlx::query(
        "INSERT INTO deployments (id, project, name, revision, created_at, updated_at,
                                  removed_at, hold_until, stopped, restart_floor, stable, rollout)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         ON CONFLICT (id) DO UPDATE SET
             revision = excluded.revision, updated_at = excluded.updated_at,
             removed_at = excluded.removed_at, hold_until = excluded.hold_until,
             stopped = excluded.stopped, restart_floor = excluded.restart_floor,
             stable = excluded.stable, rollout = excluded.rollout",
    )
    .bind(deployment.id.as_str())
    .bind(deployment.spec.project.as_str())
    .bind(deployment.spec.name.as_str())
    .bind(int(deployment.revision))
    .bind(int(deployment.created_at.as_millis()))
    .bind(int(deployment.updated_at.as_millis()))
    .bind(deployment.removed_at.map(|at| int(at.as_millis())))
    .bind(deployment.hold_until.map(|at| int(at.as_millis())))
    .bind(i64::from(deployment.stopped))
    .bind(int(deployment.restart_floor))
    .bind(deployment.stable.map(int))
    .bind(rollout)
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    put_spec(write, &deployment.spec_hash, &deployment.spec.instance).await?;
    revisions::put_all(write, deployment).await
}

/// Forgets a removed deployment but for that it was removed, and the specs that nothing refers to
/// any more.
pub async fn purge(
    write: &mut Write,
    id: &DeploymentId,
    removed_at: Timestamp,
) -> Result<(), StoreError> {
    note_removed(write, id, removed_at).await?;
    for statement in
        ["DELETE FROM instances WHERE deployment_id = $1", "DELETE FROM deployments WHERE id = $1"]
    {
        sqlx::query(statement)
            .bind(id.as_str())
            .execute(&mut **write)
            .await
            .map_err(StoreError::Write)?;
    }
    purge_specs(write).await
}

/// Remembers that a deployment was removed.
pub async fn note_removed(
    write: &mut Write,
    id: &DeploymentId,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO removed_deployments (id, removed_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    )
    .bind(id.as_str())
    .bind(int(at.as_millis()))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// Forgets that a deployment was removed.
pub async fn forget_removed(write: &mut Write, id: &DeploymentId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM removed_deployments WHERE id = $1")
        .bind(id.as_str())
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

/// Forgets the specs that no instance and no remembered revision refers to.
async fn purge_specs(write: &mut Write) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM specs WHERE hash NOT IN (SELECT spec_hash FROM instances)
             AND hash NOT IN (SELECT spec_hash FROM revisions)",
    )
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// Stores what a hash stands for.
pub async fn put_spec(
    write: &mut Write,
    hash: &SpecHash,
    spec: &InstanceSpec,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO specs (hash, spec) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING")
        .bind(hash.as_str())
        .bind(to_json("spec", spec)?)
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

/// Stores an instance; its deployment, node and spec must be there.
pub async fn put_instance(write: &mut Write, instance: &Instance) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO instances (id, deployment_id, slot, revision, attempt, node_id, spec_hash,
                                retry, because, secrets)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (id) DO UPDATE SET
             retry = excluded.retry, because = excluded.because, secrets = excluded.secrets",
    )
    .bind(instance.id.as_str())
    .bind(instance.deployment.as_str())
    .bind(i64::from(instance.slot))
    .bind(int(instance.revision))
    .bind(i64::from(instance.attempt))
    .bind(instance.node.as_str())
    .bind(instance.spec.as_str())
    .bind(i64::from(instance.retry))
    .bind(&instance.because)
    .bind(to_json("secrets", &instance.secrets)?)
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

pub async fn remove_instance(write: &mut Write, id: &InstanceId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM instances WHERE id = $1")
        .bind(id.as_str())
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

type DeploymentRow = (
    String,
    i64,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    i64,
    i64,
    Option<i64>,
    Option<String>,
    String,
    String,
);
type InstanceRow = (String, String, i64, i64, i64, String, String, i64, String, String);

impl Store {
    /// Deployments that were removed, with when.
    pub(super) async fn removed_deployments(
        &self,
    ) -> Result<BTreeMap<DeploymentId, Timestamp>, StoreError> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT id, removed_at FROM removed_deployments")
                .fetch_all(&self.read)
                .await
                .map_err(StoreError::Read)?;
        rows.into_iter().map(|(id, at)| Ok((parsed("deployment", &id)?, moment(at)))).collect()
    }

    /// Every deployment with its revisions.
    pub(super) async fn deployments(
        &self,
    ) -> Result<BTreeMap<DeploymentId, Deployment>, StoreError> {
        let rows: Vec<DeploymentRow> = sqlx::query_as(
            "SELECT d.id, d.revision, d.created_at, d.updated_at, d.removed_at, d.hold_until,
                    d.stopped, d.restart_floor, d.stable, d.rollout, r.spec, r.spec_hash
             FROM deployments d
             JOIN revisions r ON r.deployment_id = d.id AND r.revision = d.revision",
        )
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::Read)?;
        let mut revisions = revisions::all(&self.read).await?;
        let mut found = BTreeMap::new();
        for row in rows {
            let mut deployment = deployment(&row)?;
            deployment.revisions = revisions.remove(&deployment.id).unwrap_or_default();
            found.insert(deployment.id.clone(), deployment);
        }
        Ok(found)
    }

    pub(super) async fn specs(&self) -> Result<BTreeMap<SpecHash, InstanceSpec>, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT hash, spec FROM specs")
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::Read)?;
        rows.into_iter()
            .map(|(hash, spec)| Ok((parsed("spec hash", &hash)?, from_json("spec", &spec)?)))
            .collect()
    }

    pub(super) async fn instances(&self) -> Result<Instances, StoreError> {
        let rows: Vec<InstanceRow> = sqlx::query_as(
            "SELECT id, deployment_id, slot, revision, attempt, node_id, spec_hash, retry, because,
                    secrets
             FROM instances",
        )
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::Read)?;
        let found = rows.into_iter().map(|row| instance(row).map(|i| (i.id.clone(), i)));
        found.collect()
    }
}

fn deployment(row: &DeploymentRow) -> Result<Deployment, StoreError> {
    let (id, revision, created, updated, removed, hold, stopped, floor, stable, rollout, ..) = row;
    let (.., spec, spec_hash) = row;
    Ok(Deployment {
        id: parsed("deployment", id)?,
        revision: uint(*revision),
        spec: from_json("deployment", spec)?,
        spec_hash: parsed("spec hash", spec_hash)?,
        created_at: moment(*created),
        updated_at: moment(*updated),
        removed_at: removed.map(moment),
        hold_until: hold.map(moment),
        stopped: *stopped != 0,
        restart_floor: uint(*floor),
        stable: stable.map(uint),
        revisions: BTreeMap::new(),
        rollout: rollout.as_deref().map(|text| from_json("rollout", text)).transpose()?,
    })
}

fn instance(row: InstanceRow) -> Result<Instance, StoreError> {
    let (id, deployment, slot, revision, attempt, node, spec, retry, because, secrets) = row;
    Ok(Instance {
        id: parsed("instance", &id)?,
        deployment: parsed("deployment", &deployment)?,
        slot: small(slot),
        revision: uint(revision),
        attempt: small(attempt),
        node: parsed("node", &node)?,
        spec: parsed("spec hash", &spec)?,
        retry: retry != 0,
        because,
        secrets: from_json("secrets", &secrets)?,
    })
}
