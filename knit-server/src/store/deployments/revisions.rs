//! Rows of revisions: what is remembered of a deployment's past, and of its newest state.

use std::collections::BTreeMap;

use knit_rpc::api::{Cause, RolloutState};
use knit_rpc::id::DeploymentId;
use knit_server_core::Deployment;
use knit_server_core::snapshot::Revision;
use sqlx::SqlitePool;

use super::super::{StoreError, Write, from_json, int, moment, parsed, to_json, uint};
use super::{purge_specs, put_spec};

/// Makes the rows of a deployment's revisions what they are in memory. Of those that have ended
/// only what is not stored yet is written: their past does not change.
pub(super) async fn put_all(write: &mut Write, deployment: &Deployment) -> Result<(), StoreError> {
    let known = known(write, &deployment.id).await?;
    for (number, revision) in &deployment.revisions {
        if revision.ended_at.is_some() && known.get(number) == Some(&End::of(revision)) {
            continue;
        }
        put_spec(write, &revision.spec_hash, &revision.spec.instance).await?;
        put(write, &deployment.id, *number, revision).await?;
    }
    if !deployment.revisions.contains_key(&deployment.revision) {
        // The newest one's row holds the deployment's spec.
        put(write, &deployment.id, deployment.revision, &unrecorded(deployment)).await?;
    }
    let kept =
        |number: &u64| *number == deployment.revision || deployment.revisions.contains_key(number);
    let forgotten: Vec<u64> = known.into_keys().filter(|number| !kept(number)).collect();
    for number in &forgotten {
        sqlx::query("DELETE FROM revisions WHERE deployment_id = $1 AND revision = $2")
            .bind(deployment.id.as_str())
            .bind(int(*number))
            .execute(&mut **write)
            .await
            .map_err(StoreError::Write)?;
    }
    if forgotten.is_empty() { Ok(()) } else { purge_specs(write).await }
}

/// How a revision ended, as its row says.
#[derive(PartialEq)]
struct End {
    spec_hash: String,
    state: String,
    ended_at: Option<i64>,
}

impl End {
    fn of(revision: &Revision) -> Self {
        Self {
            spec_hash: revision.spec_hash.to_string(),
            state: revision.state.as_str().to_owned(),
            ended_at: revision.ended_at.map(|at| int(at.as_millis())),
        }
    }
}

async fn known(
    write: &mut Write,
    deployment: &DeploymentId,
) -> Result<BTreeMap<u64, End>, StoreError> {
    let rows: Vec<(i64, String, String, Option<i64>)> = sqlx::query_as(
        "SELECT revision, spec_hash, state, ended_at FROM revisions WHERE deployment_id = $1",
    )
    .bind(deployment.as_str())
    .fetch_all(&mut **write)
    .await
    .map_err(StoreError::Read)?;
    let end =
        |(number, spec_hash, state, ended_at)| (uint(number), End { spec_hash, state, ended_at });
    Ok(rows.into_iter().map(end).collect())
}

async fn put(
    write: &mut Write,
    deployment: &DeploymentId,
    number: u64,
    revision: &Revision,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO revisions (deployment_id, revision, spec, spec_hash, created_at, cause,
                                state, message, log, ended_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (deployment_id, revision) DO UPDATE SET
             spec = excluded.spec, spec_hash = excluded.spec_hash,
             created_at = excluded.created_at, cause = excluded.cause, state = excluded.state,
             message = excluded.message, log = excluded.log, ended_at = excluded.ended_at",
    )
    .bind(deployment.as_str())
    .bind(int(number))
    .bind(to_json("deployment", &revision.spec)?)
    .bind(revision.spec_hash.as_str())
    .bind(int(revision.created_at.as_millis()))
    .bind(to_json("cause", &revision.cause)?)
    .bind(revision.state.as_str())
    .bind(&revision.message)
    .bind(to_json("log", &revision.log)?)
    .bind(revision.ended_at.map(|at| int(at.as_millis())))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// A newest revision of which nothing but its spec is known: it was taken in from a node.
fn unrecorded(deployment: &Deployment) -> Revision {
    Revision {
        spec: deployment.spec.clone(),
        spec_hash: deployment.spec_hash.clone(),
        cause: Cause::Deploy,
        state: RolloutState::Succeeded,
        message: None,
        log: Vec::new(),
        created_at: deployment.updated_at,
        ended_at: None,
    }
}

type Row = (String, i64, String, String, i64, String, String, Option<String>, String, Option<i64>);

/// Every deployment's revisions.
pub(super) async fn all(
    pool: &SqlitePool,
) -> Result<BTreeMap<DeploymentId, BTreeMap<u64, Revision>>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT deployment_id, revision, spec, spec_hash, created_at, cause, state, message, log,
                ended_at
         FROM revisions",
    )
    .fetch_all(pool)
    .await
    .map_err(StoreError::Read)?;
    let mut found: BTreeMap<DeploymentId, BTreeMap<u64, Revision>> = BTreeMap::new();
    for row in rows {
        let (deployment, number, spec, spec_hash, created, cause, state, message, log, ended) = row;
        let revision = Revision {
            spec: from_json("deployment", &spec)?,
            spec_hash: parsed("spec hash", &spec_hash)?,
            cause: from_json("cause", &cause)?,
            state: state_of(&state)?,
            message,
            log: from_json("log", &log)?,
            created_at: moment(created),
            ended_at: ended.map(moment),
        };
        let of_deployment = found.entry(parsed("deployment", &deployment)?).or_default();
        of_deployment.insert(uint(number), revision);
    }
    Ok(found)
}

fn state_of(text: &str) -> Result<RolloutState, StoreError> {
    RolloutState::parse(text).ok_or_else(|| StoreError::Decode {
        what: "state of a revision",
        source: format!("{text} is none").into(),
    })
}
