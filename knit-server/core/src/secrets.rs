//! Which version of a secret an instance gets, and who needs which.
//!
//! ```text
//! rolling-restart, templates   the revision names the version: another one takes new containers
//! signal, none                 the instance names it: `signal` follows at once, `none` stays
//! ```
//!
//! Invariant: a plan names versions and never sees a value.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::api::FieldProblem;
use knit_rpc::id::{ProjectName, SecretName};
use knit_rpc::spec::{DeploymentSpec, InstanceSpec, OnChange};

use crate::snapshot::{Deployment, Instance, Snapshot};

/// How long the value of a version is kept after the next one was set.
pub const KEPT: Duration = Duration::from_hours(24 * 30);
/// Secrets that travel in so few KiB are not counted one by one.
const SMALL_KIB: u64 = 64;

/// A secret: all versions that were ever set, without their values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secret {
    pub versions: BTreeMap<u64, Version>,
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub bytes: u64,
    /// Whether it can be an environment variable.
    pub is_text: bool,
    pub created_at: Timestamp,
    pub created_by: String,
    /// Whether its value is gone for good.
    pub erased: bool,
}

impl Secret {
    /// The newest version and its number.
    pub fn newest(&self) -> Option<(u64, &Version)> {
        self.versions.last_key_value().map(|(number, version)| (*number, version))
    }

    /// When a version's value is to be erased, unless somebody still needs it: none for the newest.
    pub fn ends_at(&self, number: u64) -> Option<Timestamp> {
        let next = self.versions.range(number + 1..).next();
        next.map(|(_, next)| next.created_at.plus(KEPT))
    }

    fn has_value(&self, number: u64) -> bool {
        self.versions.get(&number).is_some_and(|version| !version.erased)
    }
}

/// Names the newest version of each secret that the revision names by version.
pub fn resolve(
    snapshot: &Snapshot,
    mut spec: DeploymentSpec,
) -> Result<DeploymentSpec, Vec<FieldProblem>> {
    let problems = problems(snapshot, &spec);
    if !problems.is_empty() {
        return Err(problems);
    }
    let newest = |name: &SecretName| of(snapshot, &spec.project, name)?.newest();
    let pinned = spec.instance.pinned_secrets();
    let versions = pinned.into_iter().filter_map(|name| {
        let (version, _) = newest(&name)?;
        Some((name, version))
    });
    let versions: BTreeMap<SecretName, u64> = versions.collect();
    let bytes = |name: &SecretName| newest(name).map_or(0, |(_, version)| version.bytes);
    let bytes: u64 = spec.instance.secret_names().iter().map(bytes).sum();
    // Base64 takes a third more.
    let kib = (bytes * 4 / 3).div_ceil(1024);
    let kib = if kib <= SMALL_KIB { 0 } else { kib.next_multiple_of(SMALL_KIB) };
    spec.instance.secret_versions = versions;
    spec.instance.secret_kib = u32::try_from(kib).unwrap_or(u32::MAX);
    Ok(spec)
}

/// An earlier revision's spec, as it can be had now: versions whose values are gone give way to
/// the newest.
pub fn revived(
    snapshot: &Snapshot,
    mut spec: DeploymentSpec,
) -> Result<DeploymentSpec, Vec<FieldProblem>> {
    let current = resolve(snapshot, spec.clone())?;
    let project = spec.project.clone();
    for (name, version) in &mut spec.instance.secret_versions {
        let is_there = of(snapshot, &project, name).is_some_and(|one| one.has_value(*version));
        if let Some(newest) = current.instance.secret_versions.get(name).filter(|_| !is_there) {
            *version = *newest;
        }
    }
    Ok(spec)
}

/// What an instance gets of those that the revision leaves open: the newest versions.
pub fn of_new_instance(
    snapshot: &Snapshot,
    project: &ProjectName,
    spec: &InstanceSpec,
) -> BTreeMap<SecretName, u64> {
    let open = spec.secrets.iter().filter(|one| !spec.secret_versions.contains_key(&one.name));
    open.filter_map(|one| {
        let (version, _) = of(snapshot, project, &one.name)?.newest()?;
        Some((one.name.clone(), version))
    })
    .collect()
}

/// All versions that an instance gets.
pub fn of_instance(spec: &InstanceSpec, instance: &Instance) -> BTreeMap<SecretName, u64> {
    let mut versions = spec.secret_versions.clone();
    versions.extend(instance.secrets.iter().map(|(name, version)| (name.clone(), *version)));
    versions
}

/// The deployments that a new version concerns: those that roll it out.
pub fn rolled_out<'a>(
    snapshot: &'a Snapshot,
    project: &ProjectName,
    name: &SecretName,
) -> Vec<&'a Deployment> {
    let here = snapshot.deployments.values().filter(|one| one.removed_at.is_none());
    here.filter(|one| one.spec.project == *project)
        .filter(|one| one.spec.instance.pinned_secrets().contains(name))
        .collect()
}

/// The instances whose running containers get the new file and a signal, as they are then.
pub fn signalled(
    snapshot: &Snapshot,
    project: &ProjectName,
    name: &SecretName,
    version: u64,
) -> Vec<Instance> {
    let follows = |instance: &&Instance| {
        let Some(owner) = snapshot.deployments.get(&instance.deployment) else { return false };
        let spec = snapshot.spec_of(instance);
        owner.spec.project == *project
            && spec.is_some_and(|spec| {
                let mut uses = spec.secrets.iter().filter(|one| one.name == *name);
                !spec.secret_versions.contains_key(name)
                    && uses.any(|one| one.on_change == OnChange::Signal)
            })
    };
    let concerned = snapshot.instances.values().filter(follows);
    concerned
        .map(|instance| {
            let mut instance = instance.clone();
            instance.secrets.insert(name.clone(), version);
            instance
        })
        .collect()
}

/// The deployments that use a secret, or would after a rollback, each once and in words.
pub fn users(snapshot: &Snapshot, project: &ProjectName, name: &SecretName) -> Vec<String> {
    let mut found = BTreeSet::new();
    for deployment in snapshot.deployments.values().filter(|one| one.spec.project == *project) {
        let uses = |spec: &DeploymentSpec| spec.instance.secret_names().contains(name);
        let shown = &deployment.spec.name;
        let is_here = deployment.removed_at.is_none();
        let way_back = ways_back(deployment).filter(|_| is_here).find(|number| {
            deployment.revisions.get(number).is_some_and(|revision| uses(&revision.spec))
        });
        if is_here && uses(&deployment.spec) {
            found.insert(shown.to_string());
        } else if let Some(revision) = way_back {
            found.insert(format!("{shown} (revision {revision}, to which it may go back)"));
        } else if snapshot.instances.of_deployment(&deployment.id).any(|instance| {
            snapshot.spec_of(instance).is_some_and(|spec| spec.secret_names().contains(name))
        }) {
            found.insert(format!("{shown} (an instance that is on its way out)"));
        }
    }
    found.into_iter().collect()
}

/// Who still needs one version, in words.
pub fn version_users(
    snapshot: &Snapshot,
    project: &ProjectName,
    name: &SecretName,
    version: u64,
) -> Vec<String> {
    let mut found = BTreeSet::new();
    for deployment in snapshot.deployments.values().filter(|one| one.spec.project == *project) {
        let names = |spec: &InstanceSpec| spec.secret_versions.get(name) == Some(&version);
        let kept = ways_back(deployment).chain([deployment.revision]).any(|number| {
            deployment.revisions.get(&number).is_some_and(|one| names(&one.spec.instance))
        });
        let has = snapshot.instances.of_deployment(&deployment.id).any(|instance| {
            instance.secrets.get(name) == Some(&version)
                || snapshot.spec_of(instance).is_some_and(names)
        });
        if has || (kept && deployment.removed_at.is_none()) {
            found.insert(deployment.spec.name.to_string());
        }
    }
    found.into_iter().collect()
}

/// The versions whose values are to be erased now.
pub fn to_erase(snapshot: &Snapshot, now: Timestamp) -> Vec<(ProjectName, SecretName, u64)> {
    let mut found = Vec::new();
    for ((project, name), secret) in &snapshot.secrets {
        for number in secret.versions.keys().filter(|number| secret.has_value(**number)) {
            let is_over = secret.ends_at(*number).is_some_and(|end| end <= now);
            if is_over && version_users(snapshot, project, name, *number).is_empty() {
                found.push((project.clone(), name.clone(), *number));
            }
        }
    }
    found
}

/// The number of the next version: above all that were set, and all that anything names, should
/// this server have forgotten some.
pub fn next_version(snapshot: &Snapshot, project: &ProjectName, name: &SecretName) -> u64 {
    let set = of(snapshot, project, name).and_then(Secret::newest).map(|(number, _)| number);
    let deployments =
        || snapshot.deployments.values().filter(|deployment| deployment.spec.project == *project);
    let named = deployments()
        .flat_map(|deployment| deployment.revisions.values())
        .filter_map(|revision| revision.spec.instance.secret_versions.get(name));
    let held = deployments()
        .flat_map(|deployment| snapshot.instances.of_deployment(&deployment.id))
        .filter_map(|instance| instance.secrets.get(name));
    named.chain(held).copied().chain(set).max().unwrap_or_default() + 1
}

/// What whoever deploys should know.
pub fn warnings(spec: &InstanceSpec) -> Vec<String> {
    let variables = spec.secrets.iter().filter_map(|secret| {
        let variable = secret.env.as_ref()?;
        Some(format!(
            "secret {} goes into the variable {variable}, which `docker inspect` shows on its \
             host and child processes inherit; a file (`file`) stays in memory",
            secret.name
        ))
    });
    variables.collect()
}

fn problems(snapshot: &Snapshot, spec: &DeploymentSpec) -> Vec<FieldProblem> {
    let mut found = Vec::new();
    let mut add = |field: String, message: String| {
        found.push(FieldProblem { field, message, line: None, column: None });
    };
    let newest = |name: &SecretName| of(snapshot, &spec.project, name).and_then(Secret::newest);
    let unknown = |name: &SecretName| {
        format!("there is no secret {name} in project {}: `knit secret set {name}`", spec.project)
    };
    for (index, one) in spec.instance.secrets.iter().enumerate() {
        match newest(&one.name) {
            None => add(format!("secrets[{index}].name"), unknown(&one.name)),
            Some((_, version)) if one.env.is_some() && !version.is_text => add(
                format!("secrets[{index}].env"),
                format!(
                    "{} is no text without NUL bytes, so it cannot be a variable: use a file",
                    one.name
                ),
            ),
            Some(_) => {}
        }
    }
    for (index, template) in spec.instance.templates.iter().enumerate() {
        for name in template.secrets().iter().filter(|name| newest(name).is_none()) {
            add(format!("templates[{index}].content"), unknown(name));
        }
    }
    found
}

/// The revisions that a rollout may go back to by itself, or was made of.
fn ways_back(deployment: &Deployment) -> impl Iterator<Item = u64> {
    let from = deployment.rollout.as_ref().and_then(|rollout| rollout.from);
    deployment.stable.into_iter().chain(from)
}

fn of<'a>(snapshot: &'a Snapshot, project: &ProjectName, name: &SecretName) -> Option<&'a Secret> {
    snapshot.secrets.get(&(project.clone(), name.clone()))
}

#[cfg(test)]
mod tests;
