//! The master key: where it is, and what it must look like.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::aead::{KEY_BYTES, Key, Sealed};
use crate::config::STATE_DIR;

/// Where the unit has its credential from; root's alone.
const STORED: &str = "/etc/credstore/knit.master-key";
const FILE_MODE: u32 = 0o600;
/// Nobody else may read or write it.
const OTHERS: u32 = 0o077;
/// A file that is longer is none.
const FILE_BYTES_MAX: u64 = 1024;

/// Where the master key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterKeySource {
    /// The server's own file, which it makes.
    Own(PathBuf),
    /// A file that the operator named.
    Named(PathBuf),
    /// What systemd hands in, or would hand to the unit.
    Credential(PathBuf),
}

/// Why there is no master key, or not the right one.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    #[error(
        "the master key {} is missing: put it back from a backup, or name it with \
         --master-key-file",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error("the master key {} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the master key {} can be read by others (mode {mode:04o}): make it 0600, and rotate it \
         (`knit-server rotate-master-key`) if somebody did",
        path.display()
    )]
    Mode { path: PathBuf, mode: u32 },
    #[error(
        "the master key {} is none: it must be 64 hex digits, or 32 bytes (`openssl rand -hex 32`)",
        path.display()
    )]
    Shape { path: PathBuf },
    #[error(
        "the master key {} is not the one of this database: put the right one back from a backup, \
         or name it with --master-key-file",
        path.display()
    )]
    Wrong { path: PathBuf },
    #[error("the master key {} cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

impl MasterKeySource {
    /// What the options and systemd say; the server's own file without either. A command that is
    /// run by hand on the unit's state takes the credential where systemd has it from: what it seals
    /// is opened by the unit.
    pub fn choose(named: Option<PathBuf>, credentials: Option<PathBuf>, state_dir: &Path) -> Self {
        let credential = match credentials {
            Some(dir) => Some(dir.join("master-key")),
            None if state_dir == Path::new(STATE_DIR) => Some(PathBuf::from(STORED)),
            None => None,
        };
        match (named, credential.filter(|path| path.exists())) {
            (Some(path), _) => Self::Named(path),
            (None, Some(path)) => Self::Credential(path),
            (None, None) => Self::Own(state_dir.join("master.key")),
        }
    }

    /// Whether the key is there and is one, as far as that shows without the database.
    pub fn check(&self) -> Result<(), MasterKeyError> {
        read(self, self.path()).map(drop)
    }

    pub fn path(&self) -> &Path {
        let (Self::Own(path) | Self::Named(path) | Self::Credential(path)) = self;
        path
    }

    /// Where the next master key waits until the database is sealed by it.
    pub(super) fn next(&self) -> Option<PathBuf> {
        match self {
            Self::Own(path) => Some(path.with_extension("key.next")),
            Self::Named(_) | Self::Credential(_) => None,
        }
    }
}

/// Opens the data key. A rotation that was interrupted after the database was sealed anew is
/// brought to its end.
pub(super) fn open(source: &MasterKeySource, sealed: &Sealed) -> Result<Key, MasterKeyError> {
    let path = source.path();
    let own = read(source, path).and_then(|key| {
        key.unwrap_key(sealed).ok_or_else(|| MasterKeyError::Wrong { path: path.to_owned() })
    });
    let Err(error) = own else { return own };
    let Some(next) = source.next() else { return Err(error) };
    let Some(data) = read(source, &next).ok().and_then(|key| key.unwrap_key(sealed)) else {
        return Err(error);
    };
    std::fs::rename(&next, path)
        .map_err(|source| MasterKeyError::Write { path: path.to_owned(), source })?;
    tracing::info!("an interrupted rotation of the master key was brought to its end");
    Ok(data)
}

/// The file that opens the data key, as it is: the server's own or a named one, or the next one
/// where a rotation is under way. Nothing is changed.
pub fn file_that_opens(
    source: &MasterKeySource,
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, MasterKeyError> {
    let opens = |path: &Path| {
        let key = read(source, path)?;
        let opened = key.unwrap_key(sealed).is_some();
        let wrong = || MasterKeyError::Wrong { path: path.to_owned() };
        opened
            .then(|| Zeroizing::new(format!("{}\n", *key.to_hex()).into_bytes()))
            .ok_or_else(wrong)
    };
    let own = opens(source.path());
    match source.next().map(|next| opens(&next)) {
        Some(Ok(next)) if own.is_err() => Ok(next),
        Some(_) | None => own,
    }
}

/// Whether these bytes are a master key that opens the data key.
pub fn opens(bytes: &[u8], sealed: &Sealed) -> bool {
    parse(bytes).is_some_and(|key| key.unwrap_key(sealed).is_some())
}

/// Reads the master key; makes it only where it is the server's own and missing.
pub(super) fn read_or_make(source: &MasterKeySource) -> Result<Key, MasterKeyError> {
    match (read(source, source.path()), source) {
        (Err(MasterKeyError::Missing { path }), MasterKeySource::Own(_)) => make(&path),
        (read, _) => read,
    }
}

/// A new key in a file that must not exist.
pub(super) fn make(path: &Path) -> Result<Key, MasterKeyError> {
    let key = Key::random().map_err(MasterKeyError::Random)?;
    let line = Zeroizing::new(format!("{}\n", *key.to_hex()));
    knit_runtime::file::create_exclusive(path, line.as_bytes(), FILE_MODE)
        .map_err(|source| MasterKeyError::Write { path: path.to_owned(), source })?;
    Ok(key)
}

/// Reads a key. systemd decides who reads its credentials.
pub(super) fn read(source: &MasterKeySource, path: &Path) -> Result<Key, MasterKeyError> {
    let failed = |source: io::Error| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            MasterKeyError::Missing { path }
        } else {
            MasterKeyError::Read { path, source }
        }
    };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    let mode = metadata.mode() & 0o777;
    if mode & OTHERS != 0 && !matches!(source, MasterKeySource::Credential(_)) {
        return Err(MasterKeyError::Mode { path: path.to_owned(), mode });
    }
    let shape = || MasterKeyError::Shape { path: path.to_owned() };
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(shape());
    }
    let bytes = Zeroizing::new(std::fs::read(path).map_err(failed)?);
    parse(&bytes).ok_or_else(shape)
}

/// 32 bytes as they are, or 64 hex digits with white space around them.
fn parse(bytes: &[u8]) -> Option<Key> {
    if bytes.len() == KEY_BYTES {
        return Key::from_slice(bytes);
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    hex::decode_to_slice(bytes.trim_ascii(), &mut *key).ok()?;
    Key::from_slice(&*key)
}
