//! Names and ids, parsed once at the edge and carried as proof inward.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} \"{text}\" {problem}")]
pub struct IdError {
    kind: &'static str,
    text: String,
    problem: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        ///
        /// Copying it is cheap.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads the id, or says what is wrong with the text.
            pub fn parse(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                match $check(&text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(problem) => Err(IdError { kind: $kind, text: shortened(&text), problem }),
                }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

id! {
    /// A cluster: one server and its nodes. 32 lower-case hex digits, made once.
    ClusterId, "cluster id", check_hex32
}
id! {
    /// A host that runs an agent. 32 lower-case hex digits, made once and kept on its disk.
    NodeId, "node id", check_hex32
}
id! {
    /// One container of one slot at one revision on one node: 16 lower-case hex digits.
    InstanceId, "instance id", check_hex16
}
id! {
    /// A deployment's life from its first revision to its removal: 32 lower-case hex digits.
    /// A name that is used again gets a new one, so nothing of its former life is mistaken for it.
    DeploymentId, "deployment id", check_hex32
}
id! {
    /// Hash of an `InstanceSpec`: 32 lower-case hex digits.
    SpecHash, "spec hash", check_hex32
}
id! {
    /// The part of an API token that is no secret: 8 lower-case hex digits.
    TokenId, "token id", check_hex8
}
id! {
    /// A deployment's name within its project: a DNS label of at most 63 characters.
    DeploymentName, "deployment name", check_dns_label
}
id! {
    /// A namespace of names: a DNS label of at most 63 characters.
    ProjectName, "project name", check_dns_label
}

id! {
    /// A secret's name within its project: a DNS label of at most 63 characters.
    SecretName, "secret name", check_dns_label
}

impl ProjectName {
    /// The project that always exists.
    pub fn default_project() -> Self {
        Self("default".into())
    }
}

impl Default for ProjectName {
    fn default() -> Self {
        Self::default_project()
    }
}

impl NodeId {
    /// Writes 16 random bytes as an id.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(hex::encode(bytes).into())
    }
}

impl ClusterId {
    /// Writes 16 random bytes as an id.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(hex::encode(bytes).into())
    }
}

impl TokenId {
    /// Writes 4 random bytes as an id.
    pub fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(hex::encode(bytes).into())
    }
}

impl DeploymentId {
    /// Writes 16 random bytes as an id.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(hex::encode(bytes).into())
    }
}

impl SpecHash {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(sha256_hex(bytes, 16).into())
    }
}

impl InstanceId {
    /// The id of the `attempt`-th instance of a slot at a revision: the same arguments give the
    /// same id, so that planning twice makes one instance.
    pub fn derive(deployment: &DeploymentId, slot: u32, revision: u64, attempt: u32) -> Self {
        Self(sha256_hex(format!("{deployment}/{slot}/{revision}/{attempt}").as_bytes(), 8).into())
    }
}

fn sha256_hex(bytes: &[u8], keep: usize) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(&Sha256::digest(bytes)[..keep])
}

fn check_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn check_hex32(text: &str) -> Result<(), &'static str> {
    if check_hex(text, 32) { Ok(()) } else { Err("is not 32 lower-case hex digits") }
}

fn check_hex16(text: &str) -> Result<(), &'static str> {
    if check_hex(text, 16) { Ok(()) } else { Err("is not 16 lower-case hex digits") }
}

fn check_hex8(text: &str) -> Result<(), &'static str> {
    if check_hex(text, 8) { Ok(()) } else { Err("is not 8 lower-case hex digits") }
}

fn check_dns_label(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty: give it 1 to 63 characters");
    }
    if text.len() > 63 {
        return Err("is longer than 63 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("may hold lower-case letters, digits and \"-\" only");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("may not begin or end with \"-\"");
    }
    Ok(())
}

/// Keeps an error message short when somebody hands in a whole file as a name.
fn shortened(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text.escape_debug().to_string();
    }
    let head: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{}…", head.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "hello", "web-2", "0", &"x".repeat(63)] {
            assert_eq!(DeploymentName::parse(good).expect(good).as_str(), good);
        }
        for (bad, problem) in [
            ("", "is empty"),
            ("Web", "lower-case"),
            ("a_b", "lower-case"),
            ("a.b", "lower-case"),
            ("-a", "begin or end"),
            ("a-", "begin or end"),
            (&*"x".repeat(64), "longer than 63"),
            ("naïve", "lower-case"),
        ] {
            let error = DeploymentName::parse(bad).expect_err(bad).to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn broadcast_is_no_node_id() {
        assert!(NodeId::parse("broadcast").is_err());
        assert!(NodeId::parse("*").is_err());
        assert!(NodeId::parse(">").is_err());
        assert!(NodeId::parse("A".repeat(32)).is_err());
        assert!(NodeId::parse("a".repeat(32)).is_ok());
    }

    #[test]
    fn an_instance_id_depends_on_each_of_its_parts() {
        let a = DeploymentId::from_bytes([1; 16]);
        let b = DeploymentId::from_bytes([2; 16]);
        let ids = [
            InstanceId::derive(&a, 0, 1, 0),
            InstanceId::derive(&b, 0, 1, 0),
            InstanceId::derive(&a, 1, 1, 0),
            InstanceId::derive(&a, 0, 2, 0),
            InstanceId::derive(&a, 0, 1, 1),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(ids[0], InstanceId::derive(&a, 0, 1, 0));
        assert!(InstanceId::parse(ids[0].as_str()).is_ok());
    }

    #[test]
    fn ids_are_checked_when_they_are_read_from_json() {
        assert!(serde_json::from_str::<ProjectName>("\"No Spaces\"").is_err());
        assert_eq!(serde_json::from_str::<ProjectName>("\"shop\"").unwrap().as_str(), "shop");
    }
}
