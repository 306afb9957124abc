//! Who may be a member, beyond having the secret: certificates over WireGuard keys and their
//! revocations, made by a mesh authority whose private half no node has.
//!
//! ```text
//!  AuthoritySecret ──sign──> Certificate (key, name, from, until) ── carried by the node ──┐
//!        └─────────revoke──> Revocation (key, at) ── carried by everybody ────────────────┤
//!  AuthorityKey ─────────────────── verify <───────────────────────────────────────────────┘
//! ```
//!
//! Everything is one line of text: a prefix that says what it is and in which version, then
//! base64url without padding. Signatures are Ed25519 (RFC 8032) over `CONTEXT ‖ body`, where the
//! context differs by purpose. Reading is strict: one value has one spelling.

mod certificate;
mod revocation;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

pub use certificate::{Certificate, LIFETIME_MAX_SECS, NAME_MAX_BYTES, Terms};
pub use revocation::Revocation;

const PUBLIC_PREFIX: &str = "knit-authority-v1.";
const SECRET_PREFIX: &str = "knit-authority-secret-v1.";
const SIGNATURE_LEN: usize = 64;
/// Characters of a public key that are enough to tell a person which one is meant.
const SHORT_CHARS: usize = 8;

/// Why text is not what it should be, or a certificate cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAuthority {
    #[error("not the public key of an authority: `{PUBLIC_PREFIX}` and 43 characters are expected")]
    PublicKey,
    #[error("not the secret key of an authority, which `meshctl authority init` makes")]
    SecretKey,
    #[error("not a certificate, which `meshctl authority sign` makes")]
    Certificate,
    #[error("not a revocation, which `meshctl authority revoke` makes")]
    Revocation,
    #[error("a name in a certificate is 1 to {NAME_MAX_BYTES} letters, digits, `.`, `_` or `-`")]
    Name,
    #[error("a certificate ends after it begins, and at most 5 years later")]
    Lifetime,
}

/// The public key of an authority: who trusts it names it by this.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthorityKey([u8; 32]);

impl AuthorityKey {
    /// Its first characters, for people.
    pub fn short(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0).chars().take(SHORT_CHARS).collect()
    }

    fn verifies(&self, context: &str, body: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
        let message = [context.as_bytes(), body].concat();
        VerifyingKey::from_bytes(&self.0)
            .and_then(|key| key.verify_strict(&message, &Signature::from_bytes(signature)))
            .is_ok()
    }
}

impl FromStr for AuthorityKey {
    type Err = BadAuthority;

    fn from_str(text: &str) -> Result<Self, BadAuthority> {
        let bytes = decode(text, PUBLIC_PREFIX).ok_or(BadAuthority::PublicKey)?;
        let bytes = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| BadAuthority::PublicKey)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| BadAuthority::PublicKey)?;
        if key.is_weak() { Err(BadAuthority::PublicKey) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(PUBLIC_PREFIX, &self.0))
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The secret key of an authority. It belongs on no node.
pub struct AuthoritySecret(SigningKey);

impl AuthoritySecret {
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    pub fn parse(text: &str) -> Result<Self, BadAuthority> {
        let bytes = decode(text.trim(), SECRET_PREFIX).ok_or(BadAuthority::SecretKey)?;
        let bytes = <[u8; 32]>::try_from(bytes.as_slice()).map(Zeroizing::new);
        bytes.map(|bytes| Self::from_random(&bytes)).map_err(|_| BadAuthority::SecretKey)
    }

    pub fn public(&self) -> AuthorityKey {
        AuthorityKey(self.0.verifying_key().to_bytes())
    }

    /// The line to keep in a file of mode 0600.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(encode(SECRET_PREFIX, self.0.as_bytes()))
    }

    fn sign(&self, context: &str, body: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(&[context.as_bytes(), body].concat()).to_bytes()
    }
}

impl fmt::Debug for AuthoritySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthoritySecret(…)")
    }
}

fn encode(prefix: &str, bytes: &[u8]) -> String {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The engine refuses padding and loose bits, so that what decodes has one spelling.
fn decode(text: &str, prefix: &str) -> Option<Zeroizing<Vec<u8>>> {
    URL_SAFE_NO_PAD.decode(text.strip_prefix(prefix)?).ok().map(Zeroizing::new)
}

fn number(bytes: &[u8]) -> Option<i64> {
    i64::try_from(u64::from_be_bytes(bytes.try_into().ok()?)).ok()
}

fn number_bytes(number: i64) -> [u8; 8] {
    u64::try_from(number).unwrap_or_default().to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_the_secret_one_is_not_shown() {
        let secret = AuthoritySecret::from_random(&[7; 32]);
        let public = secret.public();
        assert_eq!(public.to_string().parse(), Ok(public));
        let read = AuthoritySecret::parse(&format!("{}\n", secret.expose().as_str())).unwrap();
        assert_eq!(read.public(), public);
        assert_eq!(format!("{secret:?}"), "AuthoritySecret(…)");
        assert!(public.to_string().contains(&public.short()));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let public = AuthoritySecret::from_random(&[7; 32]).public().to_string();
        let secret = AuthoritySecret::from_random(&[7; 32]).expose();
        let zero = encode(PUBLIC_PREFIX, &[0; 32]);
        let one = encode(PUBLIC_PREFIX, &std::array::from_fn::<_, 32, _>(|at| u8::from(at == 0)));
        for bad in [
            "",
            "knit-authority-v1.",
            &public[1..],
            &public[..public.len() - 1],
            &format!("{public}="),
            &format!("{public}A"),
            &public.replace("v1", "v2"),
            &zero,
            &one,
            secret.as_str(),
        ] {
            assert_eq!(bad.parse::<AuthorityKey>(), Err(BadAuthority::PublicKey), "{bad}");
        }
        assert!(AuthoritySecret::parse(&public).is_err());
    }
}
