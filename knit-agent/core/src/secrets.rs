//! What an instance gets of secrets, and where it is put.
//!
//! ```text
//! DIR/instance ─┬ shared/NAME   mounted as a whole at /run/secrets: a file can be replaced there
//!               ├ file-N        the Nth of `secrets`, mounted by itself
//!               └ template-N    the Nth of `templates`, when what it renders to is secret
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use knit_rpc::id::SecretName;
use knit_rpc::sealed_box::SealedBox;
use knit_rpc::spec::{InstanceSpec, OnChange, SECRETS_DIR, SecretUse};
use zeroize::Zeroizing;

use crate::container::Mount;
use crate::desired::Wanted;

/// One version of a secret, sealed to this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub version: u64,
    /// None when the server could not seal it.
    pub sealed: Option<SealedBox>,
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub Zeroizing<String>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A file that holds a secret, below the instance's own directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File<'a> {
    pub secret: &'a SecretUse,
    /// The index among the spec's secrets.
    index: usize,
}

impl File<'_> {
    /// Where it lies in the directory of its instance.
    pub fn path(&self, directory: &Path) -> PathBuf {
        match self.secret.name_in_directory() {
            Some(name) => shared(directory).join(name),
            None => directory.join(format!("file-{}", self.index)),
        }
    }
}

/// The secrets that go into files.
pub fn files(spec: &InstanceSpec) -> impl Iterator<Item = File<'_>> {
    let secrets = spec.secrets.iter().enumerate();
    secrets.filter(|(_, secret)| secret.env.is_none()).map(|(index, secret)| File { secret, index })
}

/// The directory that is mounted as a whole.
pub fn shared(directory: &Path) -> PathBuf {
    directory.join("shared")
}

/// Where a rendered template lies in the directory of its instance.
pub fn template(directory: &Path, index: usize) -> PathBuf {
    directory.join(format!("template-{index}"))
}

/// What is mounted into the container.
pub fn mounts(spec: &InstanceSpec, directory: &Path) -> Vec<Mount> {
    let mut mounts = Vec::new();
    if files(spec).any(|file| file.secret.name_in_directory().is_some()) {
        let destination = SECRETS_DIR.to_owned();
        mounts.push(Mount { source: shared(directory), destination });
    }
    let alone = files(spec).filter(|file| file.secret.name_in_directory().is_none());
    mounts.extend(alone.filter_map(|file| {
        Some(Mount { source: file.path(directory), destination: file.secret.path()? })
    }));
    let rendered = spec.templates.iter().enumerate();
    let rendered = rendered.filter(|(_, template)| !template.secrets().is_empty());
    mounts.extend(rendered.map(|(index, one)| Mount {
        source: template(directory, index),
        destination: one.destination.clone(),
    }));
    mounts
}

impl Wanted {
    /// Whether something of it has to be in memory.
    pub fn has_secret_files(&self) -> bool {
        files(&self.spec).next().is_some()
            || self.spec.templates.iter().any(|template| !template.secrets().is_empty())
    }

    /// The versions that it is to have.
    pub fn secret_versions(&self) -> BTreeMap<SecretName, u64> {
        self.secrets.iter().map(|(name, held)| (name.clone(), held.version)).collect()
    }

    /// The signals to be sent once the files of these versions are there instead of `before`.
    pub fn signals(&self, before: &BTreeMap<SecretName, u64>) -> Vec<String> {
        let changed = |name: &SecretName| {
            self.secrets.get(name).is_some_and(|held| before.get(name) != Some(&held.version))
        };
        let following = self.spec.secrets.iter().filter(|one| one.on_change == OnChange::Signal);
        let mut signals: Vec<String> = following
            .filter(|one| changed(&one.name))
            .filter_map(|one| one.signal.clone())
            .collect();
        signals.sort();
        signals.dedup();
        signals
    }
}
