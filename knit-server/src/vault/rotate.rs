//! Seals the data key by another master key. What the data key sealed stays as it is, so a server
//! that runs notices nothing.
//!
//! ```text
//! next key beside the old one ─> the database, in one write ─> next key in the old one's place
//! ```
//!
//! Invariant: at each moment one of the files opens the database, whenever the power goes.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use knit_rpc::Timestamp;

use super::aead::Key;
use super::master::{self, MasterKeyError, MasterKeySource};
use crate::store::{self, Store, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error("there is nothing sealed yet: `knit-server init` makes the first master key")]
    Nothing,
    #[error("the old master key is needed to change it")]
    Old(#[source] MasterKeyError),
    #[error("the new master key cannot be used")]
    New(#[source] MasterKeyError),
    #[error(
        "{} is not the server's own file, so it is not changed: name the new key's file with \
         --new-master-key-file (it is made when it is not there), and put it in the old one's \
         place afterwards",
        path.display()
    )]
    NotOwn { path: PathBuf },
    #[error("another rotation is under way")]
    UnderWay,
    #[error("the master key {} cannot be replaced", path.display())]
    Replace { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Changes the master key; returns what there is to do next, in a sentence.
pub async fn rotate(
    store: &Store,
    source: &MasterKeySource,
    new: Option<&Path>,
    now: Timestamp,
) -> Result<String, RotateError> {
    let _alone = alone(source)?;
    let sealed = store.sealed_data_key().await?.ok_or(RotateError::Nothing)?;
    let data = master::open(source, &sealed).map_err(RotateError::Old)?;
    let Some(new) = new else {
        return rotate_own(store, source, &data, now).await;
    };
    let key = named(new).map_err(RotateError::New)?;
    reseal(store, &key, &data, now).await?;
    Ok(format!(
        "the vault is sealed by {} now: a server that starts has to be given that one (it takes \
         {} now), and the old one opens nothing any more\n",
        new.display(),
        source.path().display()
    ))
}

async fn rotate_own(
    store: &Store,
    source: &MasterKeySource,
    data: &Key,
    now: Timestamp,
) -> Result<String, RotateError> {
    let path = source.path().to_owned();
    let Some(next) = source.next() else { return Err(RotateError::NotOwn { path }) };
    // A leftover: the database is sealed by the other one, so nobody needs it.
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(RotateError::Replace { path: next, source: error });
        }
        Ok(()) | Err(_) => {}
    }
    let key = master::make(&next).map_err(RotateError::New)?;
    // Root makes it, and the server's own user is to read it.
    let owner = std::fs::metadata(&path)
        .and_then(|old| std::os::unix::fs::chown(&next, Some(old.uid()), Some(old.gid())));
    owner.map_err(|source| RotateError::Replace { path: next.clone(), source })?;
    reseal(store, &key, data, now).await?;
    std::fs::rename(&next, &path)
        .map_err(|source| RotateError::Replace { path: path.clone(), source })?;
    Ok(format!(
        "{} holds a new master key: keep a copy of it where no copy of the database is; the old \
         one opens this database no more, and old copies of it still\n",
        path.display()
    ))
}

async fn reseal(store: &Store, key: &Key, data: &Key, now: Timestamp) -> Result<(), RotateError> {
    let random = |error| RotateError::New(MasterKeyError::Random(error));
    let sealed = key.wrap(data).map_err(random)?;
    let mut write = store.begin().await?;
    store::vault::put(&mut write, &sealed, now).await?;
    store::commit(write).await?;
    Ok(())
}

/// The key in a file that the operator named; made when there is none.
fn named(path: &Path) -> Result<Key, MasterKeyError> {
    let source = MasterKeySource::Named(path.to_owned());
    match master::read(&source, path) {
        Err(MasterKeyError::Missing { path }) => master::make(&path),
        read => read,
    }
}

/// Two at once would each remove the other's next key.
fn alone(
    source: &MasterKeySource,
) -> Result<Option<nix::fcntl::Flock<std::fs::File>>, RotateError> {
    let Some(directory) = source.next().and_then(|next| next.parent().map(Path::to_owned)) else {
        return Ok(None);
    };
    let file = std::fs::File::open(&directory)
        .map_err(|source| RotateError::Replace { path: directory, source })?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map(Some)
        .map_err(|_| RotateError::UnderWay)
}
