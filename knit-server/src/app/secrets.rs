//! Secrets: setting, showing and removing them, and what follows a new version.
//!
//! Invariant: a value goes into the vault and comes out only to be sealed to a node.

mod delivery;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use knit_rpc::Timestamp;
use knit_rpc::api::{Cause, NewSecret, SECRET_BYTES_MAX, SecretStored, SecretVersion, SecretView};
use knit_rpc::id::{DeploymentId, ProjectName, SecretName};
use knit_runtime::clock;
use knit_server_core::secrets::{self, Secret, Version};
use knit_server_core::validate::validate;
use knit_server_core::{Deployment, Instance, Node, revise};
use zeroize::Zeroizing;

use super::bounds::problem;
use super::volumes::next_generations;
use super::{App, AppError, World};
use crate::store;
use crate::vault::{Place, VaultError};

pub(crate) use delivery::Delivered;

/// Secrets of one project, at most.
const SECRETS_MAX: usize = 1000;

impl From<VaultError> for AppError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Shut(why) => {
                Self::NotYet(format!("the server cannot open what it keeps sealed: {why}"))
            }
            VaultError::Random(_) | VaultError::Damaged { .. } => Self::Internal(Box::new(error)),
        }
    }
}

impl App {
    /// The secrets of a project, or of all.
    pub async fn secrets(&self, project: Option<&ProjectName>) -> Vec<SecretView> {
        let world = self.world().await;
        let all = world.snapshot.secrets.iter();
        all.filter(|((owner, _), _)| project.is_none_or(|project| owner == project))
            .filter_map(|((project, name), secret)| view(&world, project, name, secret))
            .collect()
    }

    /// All versions of a secret, the newest first.
    pub async fn secret(
        &self,
        project: &ProjectName,
        name: &SecretName,
    ) -> Result<Vec<SecretVersion>, AppError> {
        let world = self.world().await;
        let key = (project.clone(), name.clone());
        let Some(secret) = world.snapshot.secrets.get(&key) else {
            return Err(AppError::NotFound(no_secret(project, name)));
        };
        let versions = secret.versions.iter().rev().map(|(number, version)| SecretVersion {
            version: *number,
            bytes: version.bytes,
            created_at: version.created_at,
            created_by: version.created_by.clone(),
            erased: version.erased,
            erased_at: secret.ends_at(*number).filter(|_| !version.erased),
            used_by: secrets::version_users(&world.snapshot, project, name, *number),
        });
        Ok(versions.collect())
    }

    /// Stores a new version, unless the newest is of this value already, and has it rolled out.
    pub async fn set_secret(
        &self,
        project: &ProjectName,
        name: &SecretName,
        new: &NewSecret,
        by: &str,
    ) -> Result<SecretStored, AppError> {
        let value = value(new)?;
        let mut world = self.world().await;
        let wrong = |problem| AppError::Fields { what: "secret", fields: vec![problem] };
        world.check_project(project).map_err(wrong)?;
        let known = world.snapshot.secrets.get(&(project.clone(), name.clone()));
        let newest =
            known.and_then(Secret::newest).map(|(number, version)| (number, version.erased));
        check_version(name, newest.map(|(number, _)| number), new.version)?;
        if let Some((number, false)) = newest {
            match self.open_secret(project, name, number).await {
                Ok(Some(known)) if known == value => {
                    return Ok(stored(project, name, number, true));
                }
                // One that is damaged is mended by setting it anew.
                Ok(_) | Err(AppError::Internal(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if newest.is_none() {
            check_room(&world, project)?;
        }
        let number = secrets::next_version(&world.snapshot, project, name);
        let version = Version {
            bytes: u64::try_from(value.len()).unwrap_or(u64::MAX),
            is_text: std::str::from_utf8(&value).is_ok_and(|text| !text.contains('\0')),
            created_at: clock::now(),
            created_by: by.to_owned(),
            erased: false,
        };
        let sealed = self.vault.seal(&place(project, name, number), &value)?;
        let change = Change::of(&mut world, project, name, number, version)?;
        let mut write = self.store.begin().await?;
        let key = (project, name, number);
        store::secrets::put(&mut write, key, &change.version, &sealed).await?;
        change.store(&mut write).await?;
        store::commit(write).await?;
        let answer = SecretStored {
            rolled_out: names(&world, change.deployments.iter().map(|one| one.id.clone())),
            signalled: names(&world, change.instances.iter().map(|one| one.deployment.clone())),
            ..stored(project, name, number, false)
        };
        self.apply(&mut world, project, name, number, change);
        Ok(answer)
    }

    /// Removes a secret that nothing uses.
    pub async fn remove_secret(
        &self,
        project: &ProjectName,
        name: &SecretName,
    ) -> Result<(), AppError> {
        let mut world = self.world().await;
        let key = (project.clone(), name.clone());
        if !world.snapshot.secrets.contains_key(&key) {
            return Err(AppError::NotFound(no_secret(project, name)));
        }
        let users = secrets::users(&world.snapshot, project, name);
        if !users.is_empty() {
            return Err(AppError::Conflict(format!(
                "secret {name} is used by {}: undeploy that, or deploy it without, first",
                users.join(", ")
            )));
        }
        let mut write = self.store.begin().await?;
        store::secrets::remove(&mut write, project, name).await?;
        store::commit(write).await?;
        world.snapshot.secrets.remove(&key);
        Ok(())
    }

    /// Erases the values of versions whose time is over and that nothing needs.
    pub async fn erase_old_secrets(&self, now: Timestamp) -> Result<usize, AppError> {
        let mut world = self.world().await;
        let over = secrets::to_erase(&world.snapshot, now);
        if over.is_empty() {
            return Ok(0);
        }
        let mut write = self.store.begin().await?;
        for (project, name, number) in &over {
            store::secrets::erase(&mut write, project, name, *number).await?;
        }
        store::commit(write).await?;
        for (project, name, number) in &over {
            let key = (project.clone(), name.clone());
            let known = world.snapshot.secrets.get_mut(&key);
            if let Some(version) = known.and_then(|secret| secret.versions.get_mut(number)) {
                version.erased = true;
            }
            tracing::info!(%project, secret = %name, version = number, "an old value was erased");
        }
        Ok(over.len())
    }

    fn apply(
        &self,
        world: &mut World,
        project: &ProjectName,
        name: &SecretName,
        number: u64,
        change: Change,
    ) {
        let now = clock::now();
        let key = (project.clone(), name.clone());
        let known = world.snapshot.secrets.entry(key).or_default();
        known.versions.insert(number, change.version);
        for instance in change.instances {
            world.snapshot.instances.insert(instance);
        }
        for node in change.nodes {
            world.snapshot.nodes.insert(node.id.clone(), node);
        }
        for deployment in change.deployments {
            let before = world.snapshot.deployments.get(&deployment.id).cloned();
            self.tell_deployment(before.as_ref(), &deployment, now);
            world.put(deployment);
        }
        self.wake_planner.notify_one();
        self.wake_publisher.notify_one();
    }

    async fn open_secret(
        &self,
        project: &ProjectName,
        name: &SecretName,
        number: u64,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, AppError> {
        let Some(sealed) = self.store.sealed_secret(project, name, number).await? else {
            return Ok(None);
        };
        Ok(Some(self.vault.open(&place(project, name, number), &sealed)?))
    }
}

/// All that a new version changes.
struct Change {
    version: Version,
    deployments: Vec<Deployment>,
    instances: Vec<Instance>,
    nodes: Vec<Node>,
}

impl Change {
    fn of(
        world: &mut World,
        project: &ProjectName,
        name: &SecretName,
        number: u64,
        version: Version,
    ) -> Result<Self, AppError> {
        // What follows is decided as if it were set already, and taken back until it is.
        let key = (project.clone(), name.clone());
        let before = world.snapshot.secrets.get(&key).cloned();
        let known = world.snapshot.secrets.entry(key.clone()).or_default();
        known.versions.insert(number, version.clone());
        let now = clock::now();
        let next = secrets::rolled_out(&world.snapshot, project, name).into_iter().map(|known| {
            let spec = secrets::resolve(&world.snapshot, known.spec.clone())?;
            let spec = validate(spec)?.into_inner();
            let cause = Cause::Secret { name: name.clone(), version: number };
            Ok(revise::with_secret(known, spec, cause, now))
        });
        let next: Result<Vec<Deployment>, _> = next.collect();
        match before {
            Some(before) => world.snapshot.secrets.insert(key, before),
            None => world.snapshot.secrets.remove(&key),
        };
        let deployments = next.map_err(|fields| AppError::Fields { what: "secret", fields })?;
        let instances = secrets::signalled(&world.snapshot, project, name, number);
        let nodes = next_generations(&world.snapshot, instances.iter().map(|one| &one.node));
        Ok(Self { version, deployments, instances, nodes })
    }

    async fn store(&self, write: &mut store::Write) -> Result<(), AppError> {
        for deployment in &self.deployments {
            store::deployments::put(write, deployment).await?;
        }
        for instance in &self.instances {
            store::deployments::put_instance(write, instance).await?;
        }
        for node in &self.nodes {
            store::nodes::put(write, node).await?;
        }
        Ok(())
    }
}

/// The names of deployments, each once.
fn names(world: &World, ids: impl Iterator<Item = DeploymentId>) -> Vec<String> {
    let known = ids.filter_map(|id| world.snapshot.deployments.get(&id));
    let mut names: Vec<String> = known.map(|one| one.spec.name.to_string()).collect();
    names.sort();
    names.dedup();
    names
}

/// Where the value of a version belongs in the vault.
fn place(project: &ProjectName, name: &SecretName, version: u64) -> Place {
    Place { kind: "secret", project: project.to_string(), name: name.to_string(), version }
}

fn value(new: &NewSecret) -> Result<Zeroizing<Vec<u8>>, AppError> {
    let wrong = |message: &str| AppError::Fields {
        what: "secret",
        fields: vec![problem("value", message)],
    };
    let bytes = STANDARD.decode(&new.value).map_err(|_| wrong("must be standard base64"))?;
    let bytes = Zeroizing::new(bytes);
    if bytes.is_empty() {
        return Err(wrong("is empty: a secret has at least one byte"));
    }
    if bytes.len() > SECRET_BYTES_MAX {
        let most = SECRET_BYTES_MAX / 1024;
        return Err(wrong(&format!("has {} bytes; at most {most} KiB are kept", bytes.len())));
    }
    Ok(bytes)
}

/// Refuses when somebody was faster than who expects this version (0: none).
fn check_version(
    name: &SecretName,
    newest: Option<u64>,
    expected: Option<u64>,
) -> Result<(), AppError> {
    let newest = newest.unwrap_or_default();
    match expected {
        Some(expected) if expected != newest => Err(AppError::Conflict(format!(
            "secret {name} is at version {newest}, not at {expected}: somebody else set it \
             meanwhile"
        ))),
        Some(_) | None => Ok(()),
    }
}

fn check_room(world: &World, project: &ProjectName) -> Result<(), AppError> {
    let count = world.snapshot.secrets.keys().filter(|(owner, _)| owner == project).count();
    if count < SECRETS_MAX {
        return Ok(());
    }
    Err(AppError::Conflict(format!(
        "project {project} has {SECRETS_MAX} secrets already: remove some"
    )))
}

fn stored(project: &ProjectName, name: &SecretName, version: u64, unchanged: bool) -> SecretStored {
    SecretStored {
        project: project.clone(),
        name: name.clone(),
        version,
        unchanged,
        rolled_out: Vec::new(),
        signalled: Vec::new(),
    }
}

fn view(
    world: &World,
    project: &ProjectName,
    name: &SecretName,
    secret: &Secret,
) -> Option<SecretView> {
    let (version, newest) = secret.newest()?;
    let (_, oldest) = secret.versions.first_key_value()?;
    Some(SecretView {
        project: project.clone(),
        name: name.clone(),
        version,
        bytes: newest.bytes,
        created_at: oldest.created_at,
        updated_at: newest.created_at,
        updated_by: newest.created_by.clone(),
        used_by: secrets::users(&world.snapshot, project, name),
    })
}

/// The sentence for a name that no secret has.
fn no_secret(project: &ProjectName, name: &SecretName) -> String {
    format!("there is no secret {name} in project {project}")
}
