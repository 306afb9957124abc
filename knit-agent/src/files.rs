//! Template files of instances: `STATE_DIR/instances/{id}/files/{n}`.
//!
//! Invariant: the directories are 0700, so nobody but root and the containers they are mounted
//! into reads a file, whatever its own mode says.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use knit_agent_core::container::file_name;
use knit_agent_core::template::{self, TemplateError};
use knit_agent_core::{Wanted, template::NodeContext};
use knit_rpc::id::InstanceId;

/// The set-user-id and set-group-id bits.
const SET_ID: u32 = 0o6000;

/// The directories of all instances.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("the files of instance {instance} cannot be written below {}", path.display())]
    Write { instance: InstanceId, path: PathBuf, source: io::Error },
    #[error("the files of instance {instance} cannot be removed from {}", path.display())]
    Remove { instance: InstanceId, path: PathBuf, source: io::Error },
}

impl Files {
    pub fn new(state_dir: &Path) -> Self {
        Self { root: state_dir.join("instances") }
    }

    /// Where an instance's files are.
    pub fn directory(&self, instance: &InstanceId) -> PathBuf {
        self.root.join(instance.as_str()).join("files")
    }

    /// Renders and writes all templates of an instance; does it anew when they are there.
    pub fn write(&self, node: &NodeContext, wanted: &Wanted) -> Result<(), FilesError> {
        let id = &wanted.assigned.id;
        let context = template::context(node, wanted);
        let rendered = wanted.spec.templates.iter().map(|one| template::render(one, &context));
        let rendered: Vec<String> = rendered.collect::<Result<_, _>>()?;
        let directory = self.directory(id);
        let failed =
            |source| FilesError::Write { instance: id.clone(), path: directory.clone(), source };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed)?;
        for (index, (template, content)) in wanted.spec.templates.iter().zip(rendered).enumerate() {
            let path = directory.join(file_name(index));
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
        match std::fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(FilesError::Remove { instance: instance.clone(), path, source })
            }
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

    /// Removes every instance's files.
    pub fn remove_all(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
