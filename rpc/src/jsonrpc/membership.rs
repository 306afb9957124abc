//! What the sidecar says of authorities, their certificates, and a secret that changes: keys of its
//! own, absent where there is nothing of the kind.

use serde::{Deserialize, Serialize};

/// What the authorities say of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Signed {
    /// [`Signed::SIGNED`], or in a word or two why not: `no`, `expired`, `revoked`.
    pub state: String,
    /// The name in its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The first characters of the authority's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

impl Signed {
    pub const SIGNED: &str = "signed";
}

/// A node that has the mesh secret and is kept out nevertheless.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptOutPeer {
    pub pubkey: String,
    pub hostname: String,
    pub from: String,
    /// RFC 3339.
    pub last_seen: String,
    pub signed: Signed,
    pub why: String,
}

/// The answer to [`super::KEPT_OUT`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptOutList {
    pub peers: Vec<KeptOutPeer>,
}

/// What the local node believes and carries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MembershipStatus {
    /// Public keys.
    pub authorities: Vec<String>,
    /// Whether who is not signed is kept out.
    pub required: bool,
    pub kept_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<OwnCertificate>,
}

/// The answer to [`super::ROTATE`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RotationStarted {
    /// RFC 3339: until then the old secret is accepted.
    pub until: String,
}

/// How far the mesh has changed to a new secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RotationStatus {
    /// RFC 3339: until then the old secret is accepted.
    pub until: String,
    /// The active peers that do not have the new one yet: their names, else their keys.
    pub behind: Vec<String>,
}

/// The local node's certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnCertificate {
    pub name: String,
    /// RFC 3339.
    pub expires: String,
    /// Why it does not count, as far as this node can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
