//! Rows of secrets: sealed values, and what is known of each version.

use std::collections::BTreeMap;

use knit_rpc::id::{ProjectName, SecretName};
use knit_server_core::secrets::{Secret, Version};

use super::{Store, StoreError, Write, int, moment, parsed, uint};
use crate::vault::Sealed;

/// Stores a version with its value.
pub async fn put(
    write: &mut Write,
    (project, name, number): (&ProjectName, &SecretName, u64),
    version: &Version,
    sealed: &Sealed,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO secrets
             (project, name, version, sealed, bytes, is_text, created_at, created_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(project.as_str())
    .bind(name.as_str())
    .bind(int(number))
    .bind(sealed.as_str())
    .bind(int(version.bytes))
    .bind(i64::from(version.is_text))
    .bind(int(version.created_at.as_millis()))
    .bind(&version.created_by)
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// Takes note of a version whose value is not known here.
pub async fn put_without_value(
    write: &mut Write,
    (project, name, number): (&ProjectName, &SecretName, u64),
    version: &Version,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO secrets
             (project, name, version, sealed, bytes, is_text, created_at, created_by)
         VALUES ($1, $2, $3, NULL, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    )
    .bind(project.as_str())
    .bind(name.as_str())
    .bind(int(number))
    .bind(int(version.bytes))
    .bind(i64::from(version.is_text))
    .bind(int(version.created_at.as_millis()))
    .bind(&version.created_by)
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// Erases the value of a version; that there was one stays known.
pub async fn erase(
    write: &mut Write,
    project: &ProjectName,
    name: &SecretName,
    number: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE secrets SET sealed = NULL WHERE project = $1 AND name = $2 AND version = $3",
    )
    .bind(project.as_str())
    .bind(name.as_str())
    .bind(int(number))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// Forgets a secret with all its versions.
pub async fn remove(
    write: &mut Write,
    project: &ProjectName,
    name: &SecretName,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM secrets WHERE project = $1 AND name = $2")
        .bind(project.as_str())
        .bind(name.as_str())
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

type Row = (String, String, i64, i64, i64, i64, String, i64);

impl Store {
    /// All that is known of secrets, but for their values.
    pub(super) async fn secrets(
        &self,
    ) -> Result<BTreeMap<(ProjectName, SecretName), Secret>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT project, name, version, bytes, is_text, created_at, created_by,
                    CASE WHEN sealed IS NULL THEN 1 ELSE 0 END
             FROM secrets",
        )
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::Read)?;
        let mut found: BTreeMap<_, Secret> = BTreeMap::new();
        for (project, name, number, bytes, is_text, created_at, created_by, erased) in rows {
            let key = (parsed("project", &project)?, parsed("secret", &name)?);
            let version = Version {
                bytes: uint(bytes),
                is_text: is_text != 0,
                created_at: moment(created_at),
                created_by,
                erased: erased != 0,
            };
            found.entry(key).or_default().versions.insert(uint(number), version);
        }
        Ok(found)
    }

    /// The value of one version as it is sealed; none when it was erased or never was.
    pub async fn sealed_secret(
        &self,
        project: &ProjectName,
        name: &SecretName,
        number: u64,
    ) -> Result<Option<Sealed>, StoreError> {
        let sealed: Option<Option<String>> = sqlx::query_scalar(
            "SELECT sealed FROM secrets WHERE project = $1 AND name = $2 AND version = $3",
        )
        .bind(project.as_str())
        .bind(name.as_str())
        .bind(int(number))
        .fetch_optional(&self.read)
        .await
        .map_err(StoreError::Read)?;
        Ok(sealed.flatten().map(Sealed::from_stored))
    }
}
