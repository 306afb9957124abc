//! Files of instances: rendered templates in `STATE_DIR/instances/{id}/files/{n}`, and what is
//! secret in memory alone (`secrets`).
//!
//! Invariant: the directories are 0700, so nobody but root and the containers they are mounted
//! into reads a file, whatever its own mode says.

mod memory;
pub mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use knit_agent_core::container::file_name;
use knit_agent_core::template::{self, TemplateError};
use knit_agent_core::{Wanted, template::NodeContext};
use knit_rpc::id::{InstanceId, SecretName};
use secrets::{SecretError, SecretFiles, Values};
use serde_json::json;
use zeroize::Zeroizing;

/// The set-user-id and set-group-id bits.
const SET_ID: u32 = 0o6000;

/// The directories of all instances.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
    pub secrets: SecretFiles,
}

#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("secrets cannot be kept in {}", path.display())]
    Secrets { path: PathBuf, source: io::Error },
    #[error("the files of instance {instance} cannot be written below {}", path.display())]
    Write { instance: InstanceId, path: PathBuf, source: io::Error },
    #[error("the files of instance {instance} cannot be removed from {}", path.display())]
    Remove { instance: InstanceId, path: PathBuf, source: io::Error },
}

impl FilesError {
    /// Whether waiting will not mend it.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Template(_) | Self::Write { .. } => true,
            Self::Secret(error) => error.is_permanent(),
            Self::Secrets { .. } | Self::Remove { .. } => false,
        }
    }
}

impl Files {
    pub fn new(state_dir: &Path, secrets: SecretFiles) -> Self {
        Self { root: directory_of_all(state_dir), secrets }
    }

    /// Where an instance's files are.
    pub fn directory(&self, instance: &InstanceId) -> PathBuf {
        self.root.join(instance.as_str()).join("files")
    }

    /// Renders and writes all templates of an instance, and its secrets; does it anew when they are
    /// there.
    pub fn write(&self, node: &NodeContext, wanted: &Wanted) -> Result<(), FilesError> {
        let values =
            if wanted.has_secret_files() { self.secrets.open(wanted)? } else { Values::new() };
        let rendered = render(node, wanted, &values)?;
        let (secret, plain): (Vec<_>, Vec<_>) = rendered
            .into_iter()
            .partition(|(index, _)| !wanted.spec.templates[*index].secrets().is_empty());
        if !plain.is_empty() {
            self.write_plain(wanted, &plain)?;
        }
        if wanted.has_secret_files() {
            self.secrets.write(wanted, &values, &secret)?;
            self.secrets.note(wanted)?;
        }
        Ok(())
    }

    /// Replaces the files of secrets that a running container has.
    pub fn refresh(&self, wanted: &Wanted) -> Result<(), FilesError> {
        let values = self.secrets.open(wanted)?;
        self.secrets.write(wanted, &values, &[])
    }

    fn write_plain(
        &self,
        wanted: &Wanted,
        rendered: &[(usize, Zeroizing<String>)],
    ) -> Result<(), FilesError> {
        let id = &wanted.assigned.id;
        let directory = self.directory(id);
        let failed =
            |source| FilesError::Write { instance: id.clone(), path: directory.clone(), source };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed)?;
        for (index, content) in rendered {
            let template = &wanted.spec.templates[*index];
            let path = directory.join(file_name(*index));
            let mode = template.mode & 0o7777;
            knit_runtime::file::write_atomic(&path, content.as_bytes(), mode)
                .and_then(|()| {
                    std::os::unix::fs::chown(&path, Some(template.uid), Some(template.gid))
                })
                // A change of owner clears the set-id bits; who is no owner any more needs a right
                // to set them again that is of no use otherwise.
                .and_then(|()| if mode & SET_ID == 0 { Ok(()) } else { set_mode(&path, mode) })
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Removes an instance's files; none being there is as good.
    pub fn remove(&self, instance: &InstanceId) -> Result<(), FilesError> {
        let path = self.root.join(instance.as_str());
        let failed =
            |path| |source| FilesError::Remove { instance: instance.clone(), path, source };
        self.secrets.remove(instance).map_err(failed(self.secrets.directory(instance)))?;
        match std::fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed(path)(source)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The instances that have a directory.
    pub fn list(&self) -> BTreeSet<InstanceId> {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return BTreeSet::new() };
        entries
            .filter_map(|entry| InstanceId::parse(entry.ok()?.file_name().into_string().ok()?).ok())
            .collect()
    }
}

/// Removes every instance's files.
pub fn remove_all(state_dir: &Path, secrets_dir: &Path) -> io::Result<()> {
    secrets::remove_all(secrets_dir)?;
    match std::fs::remove_dir_all(directory_of_all(state_dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn directory_of_all(state_dir: &Path) -> PathBuf {
    state_dir.join("instances")
}

/// All templates by their index.
fn render(
    node: &NodeContext,
    wanted: &Wanted,
    values: &Values,
) -> Result<Vec<(usize, Zeroizing<String>)>, FilesError> {
    let mut context = template::context(node, wanted);
    let mut rendered = Vec::new();
    for (index, one) in wanted.spec.templates.iter().enumerate() {
        // Each knows the secrets that it names and no other's: by that alone it is told from those
        // that may lie on the disk.
        let named = one.secrets();
        let texts = named.iter().map(|name| Ok((name, secrets::text(values, name, "a template")?)));
        let texts: BTreeMap<&SecretName, &str> = texts.collect::<Result<_, SecretError>>()?;
        context["secret"] = json!(texts);
        rendered.push((index, Zeroizing::new(template::render(one, &context)?)));
    }
    Ok(rendered)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
