//! Backups: one file with all that cannot be rebuilt, and filling an empty state directory from it.
//!
//! ```text
//! manifest.json  identity.json  [master.key]  knit.db  sha256
//! ```
//!
//! It is a plain tar, so that people can look into it with what they have; it is read strictly:
//! these members in this order, and every byte of it is under a checksum.
//!
//! Invariant: a backup, and a restored state directory, is there whole or not at all.

pub mod archive;
mod restore;
mod staging;
mod take;

use knit_rpc::Timestamp;
use knit_rpc::id::ClusterId;
use serde::{Deserialize, Serialize};

pub use restore::{check, restore};
pub use staging::refuse_half_a_restore;
pub use take::{Wish, take};

/// The form of backups that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

const MANIFEST: &str = "manifest.json";
const IDENTITY: &str = "identity.json";
const MASTER_KEY: &str = "master.key";
const DATABASE: &str = "knit.db";

/// What a backup says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The version of the program that wrote it.
    pub knit: String,
    pub cluster: ClusterId,
    pub taken_at: Timestamp,
    /// The newest migration of its database.
    pub schema: i64,
    pub master_key: MasterKey,
    /// What follows, in this order.
    pub members: Vec<Member>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// Whether the key that opens what is sealed is in the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MasterKey {
    Included,
    /// Somebody wanted it so.
    LeftOut,
    /// It is not the server's own file: whoever keeps it there keeps it apart.
    Elsewhere,
    /// Nothing was ever sealed.
    None,
}

impl MasterKey {
    /// What there is to know about it.
    fn sentence(self) -> &'static str {
        match self {
            Self::Included => {
                "The master key is in it: whoever has this file reads every secret. Encrypt it \
                 where it leaves this host."
            }
            Self::LeftOut | Self::Elsewhere => {
                "The master key is NOT in it: without a copy of that key, kept elsewhere, nothing \
                 that is sealed in it opens again."
            }
            Self::None => "Nothing is sealed in it.",
        }
    }
}
