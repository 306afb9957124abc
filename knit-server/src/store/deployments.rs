//! Rows of deployments, their revisions, and the instances that were decided for them.

use knit_rpc::id::{DeploymentId, InstanceId, SpecHash};
use knit_rpc::spec::InstanceSpec;
use knit_server_core::{Deployment, Instance};

use super::{StoreError, Write, int, to_json};

/// Stores a deployment at its newest revision.
pub async fn put(write: &mut Write, deployment: &Deployment) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO deployments (id, project, name, revision, created_at, updated_at,
                                  removed_at, hold_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (id) DO UPDATE SET
             revision = excluded.revision, updated_at = excluded.updated_at,
             removed_at = excluded.removed_at, hold_until = excluded.hold_until",
    )
    .bind(deployment.id.as_str())
    .bind(deployment.spec.project.as_str())
    .bind(deployment.spec.name.as_str())
    .bind(int(deployment.revision))
    .bind(int(deployment.created_at.as_millis()))
    .bind(int(deployment.updated_at.as_millis()))
    .bind(deployment.removed_at.map(|at| int(at.as_millis())))
    .bind(deployment.hold_until.map(|at| int(at.as_millis())))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    put_spec(write, &deployment.spec_hash, &deployment.spec.instance).await?;
    sqlx::query(
        "INSERT INTO revisions (deployment_id, revision, spec, spec_hash, created_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (deployment_id, revision) DO UPDATE SET
             spec = excluded.spec, spec_hash = excluded.spec_hash",
    )
    .bind(deployment.id.as_str())
    .bind(int(deployment.revision))
    .bind(to_json("deployment", &deployment.spec)?)
    .bind(deployment.spec_hash.as_str())
    .bind(int(deployment.updated_at.as_millis()))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// Forgets a removed deployment, and the specs that nothing refers to any more.
pub async fn purge(write: &mut Write, id: &DeploymentId) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM instances WHERE deployment_id = $1",
        "DELETE FROM deployments WHERE id = $1",
        "DELETE FROM specs WHERE $1 <> '' AND hash NOT IN (SELECT spec_hash FROM instances)
             AND hash NOT IN (SELECT spec_hash FROM revisions)",
    ] {
        sqlx::query(statement)
            .bind(id.as_str())
            .execute(&mut **write)
            .await
            .map_err(StoreError::Write)?;
    }
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
                                retry)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (id) DO UPDATE SET retry = excluded.retry",
    )
    .bind(instance.id.as_str())
    .bind(instance.deployment.as_str())
    .bind(i64::from(instance.slot))
    .bind(int(instance.revision))
    .bind(i64::from(instance.attempt))
    .bind(instance.node.as_str())
    .bind(instance.spec.as_str())
    .bind(i64::from(instance.retry))
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
