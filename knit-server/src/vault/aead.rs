//! XChaCha20-Poly1305: a random nonce of 24 bytes goes before each ciphertext.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::{Zeroize as _, Zeroizing};

pub(super) const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// What a data key is bound to.
const DATA_KEY: &[u8] = b"knit-vault-v1 data key";

/// A key, wiped when it is dropped, and never shown.
pub(super) struct Key(Zeroizing<[u8; KEY_BYTES]>);

/// What was sealed, as it is stored: standard base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(String);

impl Sealed {
    /// As it was stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} characters)", self.0.len())
    }
}

impl Key {
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *bytes)?;
        Ok(Self(bytes))
    }

    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    /// As a file holds it.
    pub(super) fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(*self.0))
    }

    pub(super) fn seal(
        &self,
        bound_to: &[u8],
        plaintext: &[u8],
    ) -> Result<Sealed, getrandom::Error> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let payload = Payload { msg: plaintext, aad: bound_to };
        // Only a plaintext of 256 GiB does not seal.
        let ciphertext = self.cipher().encrypt(XNonce::from_slice(&nonce), payload);
        let ciphertext = ciphertext.map_err(|_| getrandom::Error::UNSUPPORTED)?;
        Ok(Sealed(STANDARD.encode([&nonce[..], &ciphertext].concat())))
    }

    pub(super) fn open(&self, bound_to: &[u8], sealed: &Sealed) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = STANDARD.decode(&sealed.0).ok()?;
        let (nonce, ciphertext) = bytes.split_at_checked(NONCE_BYTES)?;
        let payload = Payload { msg: ciphertext, aad: bound_to };
        self.cipher().decrypt(XNonce::from_slice(nonce), payload).ok().map(Zeroizing::new)
    }

    /// Seals a data key.
    pub(super) fn wrap(&self, data: &Self) -> Result<Sealed, getrandom::Error> {
        self.seal(DATA_KEY, &*data.0)
    }

    /// Opens a data key.
    pub(super) fn unwrap_key(&self, sealed: &Sealed) -> Option<Self> {
        Self::from_slice(&self.open(DATA_KEY, sealed)?)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        let mut key = chacha20poly1305::Key::clone_from_slice(&*self.0);
        let cipher = XChaCha20Poly1305::new(&key);
        key.zeroize();
        cipher
    }
}
