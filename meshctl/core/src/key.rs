//! WireGuard keys as the mesh spells them: 44 characters of standard base64.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

const TEXT_LEN: usize = 44;

/// Text that is no usable WireGuard key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a WireGuard key: 44 characters of padded base64 are expected")]
pub struct BadKey;

/// A public key. Ordered by its *text*, as the protocol compares keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; TEXT_LEN]);

impl PublicKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut text = [b'='; TEXT_LEN];
        for (to, from) in text.iter_mut().zip(STANDARD.encode(bytes).bytes()) {
            *to = from;
        }
        Self(text)
    }

    pub fn to_bytes(self) -> [u8; 32] {
        let decoded = STANDARD.decode(self.0).unwrap_or_default();
        <[u8; 32]>::try_from(decoded).unwrap_or_default()
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;

    /// Refuses the all-zero key too: nobody can hold its private half.
    fn from_str(text: &str) -> Result<Self, BadKey> {
        let bytes = decode(text)?;
        if *bytes == [0; 32] { Err(BadKey) } else { Ok(Self::from_bytes(*bytes)) }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A private key, clamped, never shown.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<[u8; 32]>);

impl PrivateKey {
    /// Clamps 32 random bytes as `wg genkey` does.
    pub fn from_random(mut bytes: [u8; 32]) -> Self {
        bytes[0] &= 0xf8;
        bytes[31] = (bytes[31] & 0x7f) | 0x40;
        Self(Zeroizing::new(bytes))
    }

    pub fn parse(text: &str) -> Result<Self, BadKey> {
        decode(text).map(|bytes| Self::from_random(*bytes))
    }

    pub fn public(&self) -> PublicKey {
        let secret = StaticSecret::from(*self.0);
        PublicKey::from_bytes(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }

    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn expose_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

fn decode(text: &str) -> Result<Zeroizing<[u8; 32]>, BadKey> {
    if text.len() != TEXT_LEN {
        return Err(BadKey);
    }
    let decoded = Zeroizing::new(STANDARD.decode(text).map_err(|_| BadKey)?);
    <[u8; 32]>::try_from(decoded.as_slice()).map(Zeroizing::new).map_err(|_| BadKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE_A: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=";
    const PUBLIC_A: &str = "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=";

    #[test]
    fn the_public_half_is_that_of_wg() {
        let key = PrivateKey::parse(PRIVATE_A).unwrap();
        assert_eq!(key.public().as_str(), PUBLIC_A);
        assert_eq!(key.expose_base64().as_str(), PRIVATE_A);
        assert_eq!(format!("{key:?}"), "PrivateKey(…)");
    }

    #[test]
    fn only_canonical_text_is_a_key() {
        assert_eq!(PUBLIC_A.parse::<PublicKey>().unwrap().to_string(), PUBLIC_A);
        for bad in [
            "",
            "test-pubkey",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8",
            "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF-=",
            " 0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=",
        ] {
            assert_eq!(bad.parse::<PublicKey>(), Err(BadKey), "{bad}");
        }
    }
}
