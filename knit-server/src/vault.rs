//! What the server keeps sealed: secrets of users.
//!
//! ```text
//! master key (a file, not in the database) ─seals─> data key (one row) ─seals─> each value
//! ```
//!
//! A value is bound to its place: a row that is moved elsewhere in the database does not open.
//!
//! Invariant: a master key is made only for a vault that does not exist yet. Over a vault that
//! cannot be opened none is made: the server goes on without it and says why.

mod aead;
pub mod master;
mod rotate;

use knit_rpc::Timestamp;
use zeroize::Zeroizing;

pub use aead::Sealed;
pub use master::{MasterKeyError, MasterKeySource};
pub use rotate::{RotateError, rotate};

use crate::store::{self, Store, StoreError};
use aead::Key;

/// Where a value belongs; another place's value does not open here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Such as `secret`.
    pub kind: &'static str,
    pub project: String,
    pub name: String,
    pub version: u64,
}

/// The vault, open or not.
pub struct Vault(State);

enum State {
    Open(Key),
    Shut(String),
}

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// In a sentence that says how to mend it.
    #[error("{0}")]
    Shut(String),
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
    #[error(
        "{} {}/{} version {} cannot be opened: its row was changed or moved",
        place.kind, place.project, place.name, place.version
    )]
    Damaged { place: Place },
}

impl Vault {
    /// Opens the vault of a database; makes one where there is none.
    pub async fn load(
        store: &Store,
        master: &MasterKeySource,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let found = match store.sealed_data_key().await? {
            Some(sealed) => master::open(master, &sealed),
            None => begin(store, master, now).await?,
        };
        let state = match found {
            Ok(key) => State::Open(key),
            Err(error) => {
                let why = format!("{:#}", anyhow::Error::new(error));
                tracing::error!("what is sealed stays shut, all else goes on: {why}");
                State::Shut(why)
            }
        };
        Ok(Self(state))
    }

    /// Why it is shut, if it is.
    pub fn shut(&self) -> Option<&str> {
        match &self.0 {
            State::Open(_) => None,
            State::Shut(why) => Some(why),
        }
    }

    pub fn seal(&self, place: &Place, plaintext: &[u8]) -> Result<Sealed, VaultError> {
        self.key()?.seal(&place.associated_data(), plaintext).map_err(VaultError::Random)
    }

    pub fn open(&self, place: &Place, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let opened = self.key()?.open(&place.associated_data(), sealed);
        opened.ok_or_else(|| VaultError::Damaged { place: place.clone() })
    }

    fn key(&self) -> Result<&Key, VaultError> {
        match &self.0 {
            State::Open(key) => Ok(key),
            State::Shut(why) => Err(VaultError::Shut(why.clone())),
        }
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.shut().is_none() { "Vault(open)" } else { "Vault(shut)" })
    }
}

impl Place {
    /// No two places have the same: no part holds a NUL.
    fn associated_data(&self) -> Vec<u8> {
        let version = self.version.to_string();
        let parts = ["knit-vault-v1", self.kind, &self.project, &self.name, &version];
        parts.join("\0").into_bytes()
    }
}

/// A new data key, sealed and stored.
async fn begin(
    store: &Store,
    source: &MasterKeySource,
    now: Timestamp,
) -> Result<Result<Key, MasterKeyError>, StoreError> {
    let made = master::read_or_make(source).and_then(|master| {
        let data = Key::random().map_err(MasterKeyError::Random)?;
        let sealed = master.wrap(&data).map_err(MasterKeyError::Random)?;
        Ok((data, sealed))
    });
    let (data, sealed) = match made {
        Ok(made) => made,
        Err(error) => return Ok(Err(error)),
    };
    let mut write = store.begin().await?;
    store::vault::put(&mut write, &sealed, now).await?;
    store::commit(write).await?;
    Ok(Ok(data))
}

#[cfg(test)]
mod tests;
