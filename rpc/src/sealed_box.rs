//! What only one node can read: sealed to the node's own X25519 key, whatever it travels through.
//!
//! A sealed box says nothing about who made it: it is believed for the signature of what carries
//! it. What it is *for* is sealed in with it, so that a box cannot be passed off as another.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::aead::OsRng;
use crypto_box::{PublicKey, SecretKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// Bytes of what a box is for, as they are sealed in.
const PURPOSE_BYTES: usize = 32;

/// The public half of a node's sealing key, as it travels: standard base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct SealingKey(String);

/// The key that opens what is sealed to a node.
pub struct OpeningKey(SecretKey);

/// A sealed box as it travels: standard base64. Whoever has it learns its length alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct SealedBox(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedBoxError {
    #[error("the sealing key is none: it must be 32 bytes in base64")]
    Key,
    #[error("it could not be sealed")]
    Seal,
    #[error("it was sealed to another key, or was changed on its way")]
    Open,
    #[error("it was sealed for another purpose than {0}")]
    Purpose(String),
}

impl SealingKey {
    /// Whether it is one at all.
    pub fn check(&self) -> Result<(), SealedBoxError> {
        self.read().map(|_| ())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Seals what is `for` something, such as `secret shop/db-password version 3`.
    pub fn seal(&self, purpose: &str, plaintext: &[u8]) -> Result<SealedBox, SealedBoxError> {
        let mut inside = Zeroizing::new(Vec::with_capacity(PURPOSE_BYTES + plaintext.len()));
        inside.extend_from_slice(&digest(purpose));
        inside.extend_from_slice(plaintext);
        let sealed = self.read()?.seal(&mut OsRng, &inside).map_err(|_| SealedBoxError::Seal)?;
        Ok(SealedBox(STANDARD.encode(sealed)))
    }

    fn read(&self) -> Result<PublicKey, SealedBoxError> {
        let bytes = STANDARD.decode(&self.0).map_err(|_| SealedBoxError::Key)?;
        PublicKey::from_slice(&bytes).map_err(|_| SealedBoxError::Key)
    }
}

impl From<String> for SealingKey {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl OpeningKey {
    /// A new one.
    pub fn generate() -> Self {
        Self(SecretKey::generate(&mut OsRng))
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(SecretKey::from(bytes))
    }

    /// Handle it as the secret it is.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    pub fn sealing_key(&self) -> SealingKey {
        SealingKey(STANDARD.encode(self.0.public_key().as_bytes()))
    }

    /// Opens what was sealed to this key for this purpose.
    pub fn open(
        &self,
        purpose: &str,
        sealed: &SealedBox,
    ) -> Result<Zeroizing<Vec<u8>>, SealedBoxError> {
        let bytes = STANDARD.decode(&sealed.0).map_err(|_| SealedBoxError::Open)?;
        let inside = self.0.unseal(&bytes).map_err(|_| SealedBoxError::Open)?;
        let inside = Zeroizing::new(inside);
        let (found, plaintext) =
            inside.split_at_checked(PURPOSE_BYTES).ok_or(SealedBoxError::Open)?;
        if found != digest(purpose) {
            return Err(SealedBoxError::Purpose(purpose.to_owned()));
        }
        Ok(Zeroizing::new(plaintext.to_vec()))
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningKey(for {})", self.sealing_key().0)
    }
}

impl fmt::Debug for SealedBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedBox({} characters)", self.0.len())
    }
}

fn digest(purpose: &str) -> [u8; PURPOSE_BYTES] {
    Sha256::digest(purpose).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_opens_with_the_nodes_key_and_for_its_purpose_alone() {
        let (own, other) = (OpeningKey::generate(), OpeningKey::generate());
        let key = own.sealing_key();
        key.check().unwrap();
        let sealed = key.seal("secret a version 1", b"hunter2").unwrap();
        assert_eq!(own.open("secret a version 1", &sealed).unwrap().as_slice(), b"hunter2");
        assert_eq!(other.open("secret a version 1", &sealed), Err(SealedBoxError::Open));
        let purpose = "secret a version 2";
        let refused = Err(SealedBoxError::Purpose(purpose.to_owned()));
        assert_eq!(own.open(purpose, &sealed), refused);
        let read = OpeningKey::from_bytes(*own.to_bytes());
        assert_eq!(read.open("secret a version 1", &sealed).unwrap().as_slice(), b"hunter2");
    }

    #[test]
    fn a_box_that_was_changed_does_not_open_and_rubbish_is_no_panic() {
        let own = OpeningKey::generate();
        let sealed = own.sealing_key().seal("p", &[0; 100]).unwrap();
        let mut bytes = STANDARD.decode(&sealed.0).unwrap();
        for index in [0, 31, 32, 60, bytes.len() - 1] {
            bytes[index] ^= 1;
            let changed = SealedBox(STANDARD.encode(&bytes));
            assert_eq!(own.open("p", &changed), Err(SealedBoxError::Open), "{index}");
            bytes[index] ^= 1;
        }
        for rubbish in ["", "%", "AAAA", &STANDARD.encode([7; 47])] {
            assert_eq!(own.open("p", &SealedBox(rubbish.to_owned())), Err(SealedBoxError::Open));
            assert_eq!(SealingKey(rubbish.to_owned()).check(), Err(SealedBoxError::Key));
        }
    }

    #[test]
    fn two_boxes_of_one_value_differ_and_neither_shows_it() {
        let own = OpeningKey::generate();
        let seal = || own.sealing_key().seal("p", b"correct horse battery").unwrap();
        let (one, two) = (seal(), seal());
        assert_ne!(one, two);
        let inside = STANDARD.decode(&one.0).unwrap();
        assert!(!inside.windows(7).any(|part| part == b"correct"));
        let shown = format!("{own:?}");
        assert!(!shown.contains(&hex::encode(*own.to_bytes())), "{shown}");
        assert!(!shown.contains(&STANDARD.encode(*own.to_bytes())), "{shown}");
    }
}
