//! The state directory: identity and peer cache of one interface, held by one daemon.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use knit_runtime::file;
use meshctl_core::authority::Revocation;
use meshctl_core::key::PrivateKey;
use meshctl_core::secret_store::SecretStore;
use meshctl_core::state_file::{self, CachedPeer, Identity};
use nix::fcntl::{Flock, FlockArg, OFlag};
use zeroize::Zeroizing;

const FILE_MODE: u32 = 0o600;

pub(super) struct StateDir {
    identity_path: PathBuf,
    peers_path: PathBuf,
    revocations_path: PathBuf,
    secrets_path: PathBuf,
    /// Held until the process ends.
    _lock: Flock<File>,
}

impl StateDir {
    pub(super) fn open(dir: &Path, interface: &str) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("the state directory {} cannot be made", dir.display()))?;
        let lock_path = dir.join(format!("{interface}.lock"));
        let lock_file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&lock_path)
            .with_context(|| format!("{} cannot be opened", lock_path.display()))?;
        let lock = Flock::lock(lock_file, FlockArg::LockExclusiveNonblock).map_err(|_| {
            anyhow::anyhow!(
                "another mesh daemon works with {} and interface {interface}: stop it, or choose another --interface",
                dir.display()
            )
        })?;
        remove_leftovers(dir, interface);
        Ok(Self {
            identity_path: dir.join(format!("{interface}.json")),
            peers_path: dir.join(format!("{interface}-peers.json")),
            secrets_path: dir.join(format!("{interface}-secrets.json")),
            revocations_path: dir.join(format!("{interface}-revoked")),
            _lock: lock,
        })
    }

    /// The node's identity, made when there is none. One that cannot be read is an error.
    pub(super) fn identity(&self) -> Result<Identity> {
        let path = &self.identity_path;
        match std::fs::read(path) {
            Ok(bytes) => Identity::parse(&bytes).with_context(|| {
                format!(
                    "the identity in {} is damaged: restore the file, or remove it to become a new node with a new mesh address",
                    path.display()
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.new_identity(),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    fn new_identity(&self) -> Result<Identity> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).context("the system gave no random bytes")?;
        let private_key = PrivateKey::from_random(bytes);
        let identity = Identity { private_key, mesh_ip: None, mesh_ipv6: None };
        file::create_exclusive(&self.identity_path, &identity.render(), FILE_MODE)
            .with_context(|| format!("{} cannot be written", self.identity_path.display()))?;
        tracing::info!(path = %self.identity_path.display(), "made a new identity");
        Ok(identity)
    }

    pub(super) fn keep_identity(&self, identity: &Identity) -> Result<()> {
        file::write_atomic(&self.identity_path, &identity.render(), FILE_MODE)
            .with_context(|| format!("{} cannot be written", self.identity_path.display()))
    }

    /// The peers of an earlier run. They can be found anew, so a damaged cache is only logged.
    pub(super) fn peers(&self) -> Vec<CachedPeer> {
        let path = self.peers_path.display();
        match std::fs::read(&self.peers_path) {
            Ok(bytes) => state_file::parse_peers(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%path, %error, "the peer cache is damaged and ignored");
                Vec::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(%path, %error, "the peer cache cannot be read");
                Vec::new()
            }
        }
    }

    pub(super) fn keep_peers(&self, peers: &[CachedPeer], now_unix: i64) {
        let bytes = state_file::render_peers(peers, now_unix);
        if let Err(error) = file::write_atomic(&self.peers_path, &bytes, FILE_MODE) {
            let path = self.peers_path.display();
            tracing::warn!(%path, %error, "the peer cache cannot be written");
        }
    }

    /// The secrets that an earlier run accepted.
    pub(super) fn secrets(&self) -> Result<Option<SecretStore>> {
        let shown = self.secrets_path.display();
        match std::fs::read(&self.secrets_path).map(Zeroizing::new) {
            Ok(bytes) => SecretStore::parse(&bytes).map(Some).with_context(|| shown.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{shown} cannot be read")),
        }
    }

    pub(super) fn keep_secrets(&self, store: &SecretStore) -> Result<()> {
        file::write_atomic(&self.secrets_path, &store.render(), FILE_MODE)
            .with_context(|| format!("{} cannot be written", self.secrets_path.display()))
    }

    /// The revocations that were heard of, one a line. What is damaged is left out, and loudly:
    /// others tell it again, but who starts alone would let its holder in.
    pub(super) fn revocations(&self) -> Vec<Revocation> {
        let path = self.revocations_path.display();
        let text = match std::fs::read_to_string(&self.revocations_path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::error!(%path, %error, "the revocations cannot be read");
                return Vec::new();
            }
        };
        let mut revocations = Vec::new();
        for line in text.lines() {
            match Revocation::parse(line) {
                Ok(revocation) => revocations.push(revocation),
                Err(error) => tracing::error!(%path, %error, "a revocation is damaged"),
            }
        }
        revocations
    }

    pub(super) fn keep_revocations<'a>(&self, all: impl Iterator<Item = &'a Revocation>) {
        let lines: Vec<&str> = all.map(Revocation::text).collect();
        let text = lines.join("\n");
        if let Err(error) = file::write_atomic(&self.revocations_path, text.as_bytes(), FILE_MODE) {
            let path = self.revocations_path.display();
            tracing::error!(%path, %error, "the revocations cannot be written");
        }
    }
}

/// Removes what a daemon that was killed while it wrote has left, for it may hold keys.
fn remove_leftovers(dir: &Path, interface: &str) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let prefixes = [".json.", "-peers.json.", "-secrets.json.", "-revoked."];
    for entry in entries.flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_prefix(interface));
        let is_ours = rest.is_some_and(|rest| {
            rest.strip_suffix(".tmp").is_some()
                && prefixes.iter().any(|prefix| rest.starts_with(prefix))
        });
        if is_ours {
            // The next start tries again.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn scratch() -> PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        std::env::temp_dir().join(format!("meshctl-state-{}-{count}", std::process::id()))
    }

    #[test]
    fn an_identity_is_made_once_kept_0600_and_never_replaced() {
        let dir = scratch();
        let state = StateDir::open(&dir, "wg0").unwrap();
        let made = state.identity().unwrap();
        let moved = Identity { mesh_ip: Some(Ipv4Addr::new(10, 1, 2, 3)), ..made.clone() };
        state.keep_identity(&moved).unwrap();
        let read = state.identity().unwrap();
        assert_eq!(read.private_key.public(), made.private_key.public());
        assert_eq!(read.mesh_ip, Some(Ipv4Addr::new(10, 1, 2, 3)));
        let path = dir.join("wg0.json");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        std::fs::write(&path, "{").unwrap();
        let error = format!("{:#}", state.identity().unwrap_err());
        assert!(error.contains("wg0.json is damaged: restore the file"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"{");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_a_killed_daemon_was_writing_is_removed() {
        let dir = scratch();
        drop(StateDir::open(&dir, "wg0").unwrap());
        let (ours, others) = (".wg0-secrets.json.7.0.tmp", ".wg0b-secrets.json.7.0.tmp");
        for name in [ours, others] {
            std::fs::write(dir.join(name), "half").unwrap();
        }
        let state = StateDir::open(&dir, "wg0").unwrap();
        assert!(!dir.join(ours).exists() && dir.join(others).exists());
        drop(state);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn two_daemons_do_not_share_a_state() {
        let dir = scratch();
        let first = StateDir::open(&dir, "wg0").unwrap();
        let error = StateDir::open(&dir, "wg0").err().unwrap().to_string();
        assert!(error.starts_with("another mesh daemon works with"), "{error}");
        StateDir::open(&dir, "wg1").unwrap();
        drop(first);
        StateDir::open(&dir, "wg0").unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
