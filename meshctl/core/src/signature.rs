//! Signatures by WireGuard keys: whoever has the secret can seal a message, only a node itself can
//! sign one in its name.
//!
//! `XEdDSA` (Signal's specification, revision 1): the X25519 key is taken as the Ed25519 key whose
//! public point has the sign bit 0, and verifying is plain Ed25519. The nonce is derived as in
//! RFC 8032, from a prefix that comes out of the private key.
//!
//! The signature is the last member of the last object in a message, so it covers exactly the bytes
//! before it: there is no second reading of the message that could differ from the signed one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::montgomery::MontgomeryPoint;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ed25519_dalek::{Signature, VerifyingKey};
use hkdf::Hkdf;
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

use crate::key::{PrivateKey, PublicKey};

const CONTEXT: &[u8] = b"knit-mesh-message-v1\n";
const PREFIX_INFO: &[u8] = b"knit-mesh-xeddsa-prefix-v1";
const OPENING: &[u8] = br#","sig":""#;
const CLOSING: &[u8] = br#""}}"#;
/// 64 bytes in base64url without padding.
const TEXT_LEN: usize = 86;
/// By how much signing lengthens a message.
pub(crate) const ADDED_LEN: usize = OPENING.len() + TEXT_LEN + 1;

/// A node's key as one that signs.
pub struct Signer {
    key: ExpandedSecretKey,
    public: VerifyingKey,
}

impl Signer {
    pub fn new(private_key: &PrivateKey) -> Self {
        let mut bytes = Zeroizing::new([0; 64]);
        let (scalar, prefix) = bytes.split_at_mut(32);
        scalar.copy_from_slice(private_key.expose());
        let expanded = Hkdf::<Sha256>::new(None, private_key.expose()).expand(PREFIX_INFO, prefix);
        debug_assert!(expanded.is_ok(), "32 bytes are not more than HKDF gives");
        let mut key = ExpandedSecretKey::from_bytes(&bytes);
        let point = EdwardsPoint::mul_base(&key.scalar);
        if is_negative(&point) {
            key.scalar = -key.scalar;
        }
        let public = VerifyingKey::from(EdwardsPoint::mul_base(&key.scalar));
        Self { key, public }
    }

    /// Adds the signature to a message that ends with an object in an object.
    pub fn sign(&self, plaintext: &[u8]) -> Vec<u8> {
        let Some(signed) = plaintext.strip_suffix(b"}}") else { return plaintext.to_vec() };
        let message = [CONTEXT, signed].concat();
        let signature = raw_sign::<Sha512>(&self.key, &message, &self.public).to_bytes();
        let text = URL_SAFE_NO_PAD.encode(signature);
        [signed, OPENING, text.as_bytes(), CLOSING].concat()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

/// The signature of a message, and what it covers; `None` when it has none.
pub(crate) fn split(plaintext: &[u8]) -> Option<(&[u8], [u8; 64])> {
    let rest = plaintext.strip_suffix(CLOSING)?;
    let (rest, text) = rest.split_at_checked(rest.len().checked_sub(TEXT_LEN)?)?;
    let signed = rest.strip_suffix(OPENING)?;
    let signature = URL_SAFE_NO_PAD.decode(text).ok()?;
    Some((signed, signature.try_into().ok()?))
}

/// Whether the holder of `key` signed these bytes.
pub(crate) fn verifies(key: PublicKey, signed: &[u8], signature: &[u8; 64]) -> bool {
    let Some(point) = MontgomeryPoint(key.to_bytes()).to_edwards(0) else { return false };
    let message = [CONTEXT, signed].concat();
    VerifyingKey::from(point).verify_strict(&message, &Signature::from_bytes(signature)).is_ok()
}

fn is_negative(point: &EdwardsPoint) -> bool {
    point.compress().as_bytes()[31] & 0x80 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = br#"{"a":1,"kn":{"b":2}}"#;

    fn private(number: u8) -> PrivateKey {
        PrivateKey::from_random(std::array::from_fn(|at| {
            number.wrapping_mul(31).wrapping_add(u8::try_from(at).unwrap().wrapping_mul(number | 1))
        }))
    }

    fn holds(key: PublicKey, plaintext: &[u8]) -> bool {
        split(plaintext).is_some_and(|(signed, signature)| verifies(key, signed, &signature))
    }

    #[test]
    fn every_wireguard_key_signs_and_its_public_half_verifies() {
        let mut negative = 0;
        for number in 0..64 {
            let key = private(number);
            let signed = Signer::new(&key).sign(MESSAGE);
            assert!(holds(key.public(), &signed), "{number}");
            assert!(!holds(private(number.wrapping_add(1)).public(), &signed));
            assert_eq!(signed.len(), MESSAGE.len() + ADDED_LEN);
            let value: serde_json::Value = serde_json::from_slice(&signed).unwrap();
            assert!(value["kn"]["b"] == 2 && value["kn"]["sig"].is_string());
            let scalar = curve25519_dalek::Scalar::from_bytes_mod_order(*key.expose());
            negative += i32::from(is_negative(&EdwardsPoint::mul_base(&scalar)));
        }
        assert!((10..55).contains(&negative), "both signs were tried: {negative}");
    }

    #[test]
    fn no_changed_message_verifies() {
        let key = private(3);
        let signed = Signer::new(&key).sign(MESSAGE);
        for at in 0..signed.len() {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert!(!holds(key.public(), &changed), "byte {at}");
        }
        for end in 0..signed.len() {
            assert!(!holds(key.public(), &signed[..end]));
        }
    }

    #[test]
    fn a_key_of_small_order_signs_nothing() {
        let zero = PublicKey::from_bytes([0; 32]);
        let one = PublicKey::from_bytes(std::array::from_fn(|at| u8::from(at == 0)));
        for key in [zero, one] {
            for signature in [[0; 64], std::array::from_fn(|at| u8::from(at == 0))] {
                assert!(!verifies(key, b"anything", &signature));
            }
        }
    }
}
