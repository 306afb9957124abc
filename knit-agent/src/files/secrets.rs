//! Secrets of instances: opened when they are needed, kept in memory alone.
//!
//! ```text
//! DIR/{instance}/…        what is mounted        DIR/{instance}/versions   which versions it is of
//! ```
//!
//! Invariant: `versions` is written last, so that files that are half written count as not there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use knit_agent_core::Wanted;
use knit_agent_core::secrets::{self, Held, Hidden};
use knit_rpc::id::{InstanceId, SecretName};
use knit_rpc::message::secret_purpose;
use knit_rpc::sealed_box::{OpeningKey, SealedBoxError};
use zeroize::Zeroizing;

use super::FilesError;
use super::memory::{prepare, replace};

const VERSIONS: &str = "versions";

/// The values that an instance gets, by name.
pub type Values = BTreeMap<SecretName, Zeroizing<Vec<u8>>>;

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(
        "secret {name} version {version} did not come with the assignment: the server cannot open \
         it (its log says why)"
    )]
    Missing { name: SecretName, version: u64 },
    #[error("secret {name} cannot be opened")]
    Open { name: SecretName, source: SealedBoxError },
    #[error("secret {name} is no text without NUL bytes: {what} takes one")]
    NoText { name: SecretName, what: &'static str },
}

impl SecretError {
    /// Whether waiting will not mend it.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::NoText { .. })
    }
}

/// The directories of all instances, and the key to what goes into them.
#[derive(Debug, Clone)]
pub struct SecretFiles {
    root: PathBuf,
    key: Arc<OpeningKey>,
}

impl SecretFiles {
    pub fn new(root: &Path, key: Arc<OpeningKey>) -> Self {
        Self { root: root.to_owned(), key }
    }

    /// Where an instance's secrets are.
    pub fn directory(&self, instance: &InstanceId) -> PathBuf {
        self.root.join(instance.as_str())
    }

    /// Opens all that an instance gets.
    pub fn open(&self, wanted: &Wanted) -> Result<Values, SecretError> {
        let project = &wanted.assigned.project;
        let open = |(name, held): (&SecretName, &Held)| {
            let version = held.version;
            let missing = || SecretError::Missing { name: name.clone(), version };
            let sealed = held.sealed.as_ref().ok_or_else(missing)?;
            let value = self.key.open(&secret_purpose(project, name, version), sealed);
            let value = value.map_err(|source| SecretError::Open { name: name.clone(), source })?;
            Ok((name.clone(), value))
        };
        wanted.secrets.iter().map(open).collect()
    }

    /// The variables of an instance that are secret.
    pub fn variables(&self, wanted: &Wanted) -> Result<Vec<(String, Hidden)>, SecretError> {
        let uses = wanted.spec.secrets.iter().filter(|secret| secret.env.is_some());
        if uses.clone().next().is_none() {
            return Ok(Vec::new());
        }
        let values = self.open(wanted)?;
        uses.map(|secret| {
            let text = text(&values, &secret.name, "a variable")?;
            Ok((secret.env.clone().unwrap_or_default(), Hidden(Zeroizing::new(text.to_owned()))))
        })
        .collect()
    }

    /// Writes an instance's files, and what its templates rendered to by their index; does it anew
    /// when they are there.
    pub fn write(
        &self,
        wanted: &Wanted,
        values: &Values,
        rendered: &[(usize, Zeroizing<String>)],
    ) -> Result<(), FilesError> {
        let directory = self.directory(&wanted.assigned.id);
        let write = || {
            prepare(&self.root)?;
            make(&directory, 0o700)?;
            // Who may go into it is decided by what it is mounted into.
            make(&secrets::shared(&directory), 0o755)?;
            for file in secrets::files(&wanted.spec) {
                let Some(value) = values.get(&file.secret.name) else { continue };
                let owner = (file.secret.uid, file.secret.gid);
                replace(&file.path(&directory), value, file.secret.mode & 0o7777, owner)?;
            }
            for (index, content) in rendered {
                let Some(template) = wanted.spec.templates.get(*index) else { continue };
                let (path, mode) = (secrets::template(&directory, *index), template.mode & 0o7777);
                replace(&path, content.as_bytes(), mode, (template.uid, template.gid))?;
            }
            Ok(())
        };
        write().map_err(|source| FilesError::Secrets { path: directory.clone(), source })
    }

    /// Notes that the files are of these versions.
    pub fn note(&self, wanted: &Wanted) -> Result<(), FilesError> {
        let directory = self.directory(&wanted.assigned.id);
        let text = serde_json::to_vec(&wanted.secret_versions()).unwrap_or_default();
        replace(&directory.join(VERSIONS), &text, 0o600, (0, 0))
            .map_err(|source| FilesError::Secrets { path: directory, source })
    }

    /// The instances that have files, with the versions that these are of.
    pub fn list(&self) -> BTreeMap<InstanceId, BTreeMap<SecretName, u64>> {
        let versions = |id: &InstanceId| {
            let bytes = std::fs::read(self.directory(id).join(VERSIONS)).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let ids = ids(&self.root);
        ids.into_iter().map(|id| (id.clone(), versions(&id).unwrap_or_default())).collect()
    }

    /// Removes an instance's files; none being there is as good.
    pub fn remove(&self, instance: &InstanceId) -> io::Result<()> {
        match std::fs::remove_dir_all(self.directory(instance)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Removes every instance's files, and the tmpfs when it is ours.
pub(super) fn remove_all(root: &Path) -> io::Result<()> {
    for id in ids(root) {
        std::fs::remove_dir_all(root.join(id.as_str()))?;
    }
    // It may be no mount of ours, or not there.
    let _ = nix::mount::umount(root);
    match std::fs::remove_dir(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn ids(root: &Path) -> BTreeSet<InstanceId> {
    let Ok(entries) = std::fs::read_dir(root) else { return BTreeSet::new() };
    entries
        .filter_map(|entry| InstanceId::parse(entry.ok()?.file_name().into_string().ok()?).ok())
        .collect()
}

/// A value as text.
pub(super) fn text<'a>(
    values: &'a Values,
    name: &SecretName,
    what: &'static str,
) -> Result<&'a str, SecretError> {
    let bytes = values.get(name).map_or(&[][..], |value| value.as_slice());
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    text.ok_or_else(|| SecretError::NoText { name: name.clone(), what })
}

fn make(directory: &Path, mode: u32) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(directory)?;
    // Whatever the umask is.
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use knit_rpc::id::{DeploymentId, ProjectName};
    use knit_rpc::message::AssignedInstance;
    use knit_rpc::sealed_box::SealingKey;
    use knit_rpc::spec::InstanceSpec;

    use super::*;

    fn wanted(key: &SealingKey, secrets: &serde_json::Value, value: &[u8]) -> Wanted {
        let json = serde_json::json!({ "image": "x", "secrets": secrets });
        let spec: InstanceSpec = serde_json::from_value(json).unwrap();
        let name: SecretName = "db".parse().unwrap();
        let purpose = secret_purpose(&ProjectName::default(), &name, 1);
        let sealed = Some(key.seal(&purpose, value).unwrap());
        let deployment_id = DeploymentId::from_bytes([1; 16]);
        let assigned = AssignedInstance {
            id: InstanceId::derive(&deployment_id, 0, 1, 0),
            project: ProjectName::default(),
            deployment: "web".parse().unwrap(),
            deployment_id,
            slot: 0,
            revision: 1,
            spec: spec.hash(),
            policy: None,
            secrets: BTreeMap::new(),
            held: false,
        };
        let secrets = Arc::new([(name, Held { version: 1, sealed })].into());
        Wanted { assigned, spec: spec.into(), policy: Arc::default(), secrets }
    }

    /// In memory wherever the tests run.
    fn files() -> (tempfile::TempDir, SecretFiles, SealingKey) {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let key = OpeningKey::generate();
        let sealing = key.sealing_key();
        let files = SecretFiles::new(&dir.path().join("secrets"), key.into());
        (dir, files, sealing)
    }

    #[test]
    fn a_file_has_its_mode_and_owner_and_only_root_gets_near_it() {
        let (_dir, files, key) = files();
        let uses = serde_json::json!([
            { "name": "db" },
            { "name": "db", "file": "/etc/pw", "mode": "0440", "uid": 7, "gid": 8 },
        ]);
        let wanted = wanted(&key, &uses, b"\0binary\xff");
        let values = files.open(&wanted).unwrap();
        files.write(&wanted, &values, &[]).unwrap();
        let directory = files.directory(&wanted.assigned.id);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&files.root), mode(&directory)), (0o700, 0o700));
        let shared = directory.join("shared/db");
        assert_eq!(
            (std::fs::read(&shared).unwrap(), mode(&shared)),
            (b"\0binary\xff".to_vec(), 0o400)
        );
        let alone = directory.join("file-1");
        let found = std::fs::metadata(&alone).unwrap();
        assert_eq!((mode(&alone), found.uid(), found.gid()), (0o440, 7, 8));
        assert_eq!(
            files.list()[&wanted.assigned.id],
            BTreeMap::new(),
            "not done before it is noted"
        );
        files.note(&wanted).unwrap();
        assert_eq!(files.list()[&wanted.assigned.id], wanted.secret_versions());
        files.remove(&wanted.assigned.id).unwrap();
        assert!(files.list().is_empty());
    }

    #[test]
    fn what_cannot_be_had_is_said_by_name() {
        let (_dir, files, key) = files();
        let uses = serde_json::json!([{ "name": "db", "env": "DB" }]);
        let mut wanted = wanted(&key, &uses, b"\0");
        let error = files.variables(&wanted).unwrap_err();
        assert!(
            error.is_permanent() && error.to_string().contains("secret db is no text"),
            "{error}"
        );
        let name: SecretName = "db".parse().unwrap();
        wanted.secrets = Arc::new([(name.clone(), Held { version: 2, sealed: None })].into());
        let error = files.open(&wanted).unwrap_err();
        assert!(error.to_string().contains("secret db version 2 did not come"), "{error}");
        let sealed = Some(key.seal("another purpose", b"x").unwrap());
        wanted.secrets = Arc::new([(name, Held { version: 2, sealed })].into());
        assert!(matches!(files.open(&wanted), Err(SecretError::Open { .. })));
    }

    #[test]
    fn a_template_knows_no_secret_that_another_one_names() {
        let (dir, files, key) = files();
        let mut wanted = wanted(&key, &serde_json::json!([]), b"hunter2");
        let template = |content: &str| knit_rpc::spec::TemplateSpec {
            destination: "/a".to_owned(),
            content: content.to_owned(),
            mode: 0o644,
            uid: 0,
            gid: 0,
        };
        let node = knit_agent_core::template::NodeContext {
            id: knit_rpc::id::NodeId::from_bytes([2; 16]),
            name: "n".to_owned(),
            labels: BTreeMap::new(),
            mesh_ip: std::net::Ipv4Addr::LOCALHOST,
            mesh_interface: "wg0".to_owned(),
        };
        let spec = InstanceSpec {
            templates: vec![template("{{secret.db}}"), template("{{@root.secret.db}}")],
            ..InstanceSpec::clone(&wanted.spec)
        };
        wanted.spec = Arc::new(spec);
        let all = crate::files::Files::new(dir.path(), files);
        let error = all.write(&node, &wanted).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let found =
            std::process::Command::new("grep").args(["-r", "hunter2"]).arg(dir.path()).status();
        assert!(!found.unwrap().success(), "nothing was written");
    }

    #[test]
    fn a_full_memory_leaves_nothing_half_written() {
        let (dir, files, key) = files();
        nix::mount::mount(
            Some("knit-test"),
            dir.path(),
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some("size=16k"),
        )
        .unwrap();
        let wanted = wanted(&key, &serde_json::json!([{ "name": "db" }]), &vec![7; 64 * 1024]);
        let values = files.open(&wanted).unwrap();
        let error = files.write(&wanted, &values, &[]).unwrap_err();
        let text = knit_runtime::error::sentence(&error);
        assert!(text.contains("secrets cannot be kept in"), "{text}");
        assert!(text.contains("No space left"), "{text}");
        let shared = files.directory(&wanted.assigned.id).join("shared");
        assert_eq!(std::fs::read_dir(shared).unwrap().count(), 0, "nothing half written");
        nix::mount::umount(dir.path()).unwrap();
    }

    #[test]
    fn where_nothing_is_in_memory_a_tmpfs_is_put() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let root = dir.path().join("secrets");
        prepare(&root).unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let line = mounts.lines().find(|line| line.contains(root.to_str().unwrap())).unwrap();
        for option in ["noexec", "nosuid", "nodev", "mode=700"] {
            assert!(line.contains(option), "{line}");
        }
        prepare(&root).unwrap();
        remove_all(&root).unwrap();
        assert!(!root.exists());
    }
}
