//! A revocation: the authority's word that a WireGuard key is no member any more.
//!
//! It undoes every certificate of the key that was made until then; a later one counts again.
//! Body, integers big-endian: key (32) · at (8) · until (8). The signature (64) follows.

use super::{
    AuthorityKey, AuthoritySecret, BadAuthority, LIFETIME_MAX_SECS, SIGNATURE_LEN, Terms, decode,
    encode, number, number_bytes,
};
use crate::key::PublicKey;

const PREFIX: &str = "knit-revoked-v1.";
const CONTEXT: &str = "knit-mesh-revocation-v1\n";
const BODY_LEN: usize = 32 + 8 + 8;
/// Characters of every revocation.
pub(crate) const TEXT_LEN: usize = PREFIX.len() + ((BODY_LEN + SIGNATURE_LEN) * 4).div_ceil(3);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    key: PublicKey,
    at: i64,
    until: i64,
    text: String,
    body: [u8; BODY_LEN],
    signature: [u8; SIGNATURE_LEN],
}

impl Revocation {
    /// Revokes `key` as of now. It has to be kept until the last certificate that it undoes would
    /// have expired: as long as one may live.
    pub fn sign(authority: &AuthoritySecret, key: PublicKey, now_unix: i64) -> Self {
        let until = now_unix.saturating_add(LIFETIME_MAX_SECS);
        let mut body = [0; BODY_LEN];
        body[..32].copy_from_slice(&key.to_bytes());
        body[32..40].copy_from_slice(&number_bytes(now_unix));
        body[40..].copy_from_slice(&number_bytes(until));
        let signature = authority.sign(CONTEXT, &body);
        let text = encode(PREFIX, &[body.as_slice(), &signature].concat());
        Self { key, at: now_unix, until, text, body, signature }
    }

    pub fn parse(text: &str) -> Result<Self, BadAuthority> {
        Self::read(text).ok_or(BadAuthority::Revocation)
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() != TEXT_LEN {
            return None;
        }
        let bytes = decode(text, PREFIX)?;
        let (body, signature) = bytes.split_last_chunk::<SIGNATURE_LEN>()?;
        let key = PublicKey::from_bytes(body.get(..32)?.try_into().ok()?);
        Some(Self {
            key: key.as_str().parse().ok()?,
            at: number(body.get(32..40)?)?,
            until: number(body.get(40..)?)?,
            text: text.to_owned(),
            body: body.try_into().ok()?,
            signature: *signature,
        })
    }

    pub fn is_signed_by(&self, authorities: &[AuthorityKey]) -> bool {
        authorities.iter().any(|key| key.verifies(CONTEXT, &self.body, &self.signature))
    }

    pub fn undoes(&self, terms: &Terms) -> bool {
        self.key == terms.key && terms.not_before <= self.at
    }

    /// Whether nothing that it undoes could still be valid.
    pub fn is_over(&self, now_unix: i64) -> bool {
        now_unix > self.until
    }

    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// Unix seconds.
    pub fn at(&self) -> i64 {
        self.at
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn a_revocation_undoes_what_was_made_before_it() {
        let authority = AuthoritySecret::from_random(&[7; 32]);
        let key = PrivateKey::from_random([1; 32]).public();
        let made = Revocation::sign(&authority, key, NOW);
        let read = Revocation::parse(made.text()).unwrap();
        assert_eq!(read, made);
        assert!(read.is_signed_by(&[authority.public()]));
        assert!(!read.is_signed_by(&[AuthoritySecret::from_random(&[8; 32]).public()]));
        let terms = |not_before| Terms {
            key,
            name: "a".into(),
            not_before,
            expires: not_before + 9,
            serial: 1,
        };
        assert!(read.undoes(&terms(NOW - 1)) && read.undoes(&terms(NOW)));
        assert!(!read.undoes(&terms(NOW + 1)), "a later certificate makes it a member again");
        let other = Terms { key: PrivateKey::from_random([2; 32]).public(), ..terms(NOW - 1) };
        assert!(!read.undoes(&other));
        assert!(
            !read.is_over(NOW + LIFETIME_MAX_SECS) && read.is_over(NOW + LIFETIME_MAX_SECS + 1)
        );
    }

    #[test]
    fn no_changed_revocation_verifies() {
        let authority = AuthoritySecret::from_random(&[7; 32]);
        let key = PrivateKey::from_random([1; 32]).public();
        let made = Revocation::sign(&authority, key, NOW);
        let bytes = decode(made.text(), PREFIX).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            let read = Revocation::parse(&encode(PREFIX, &changed));
            assert!(!read.is_ok_and(|read| read.is_signed_by(&[authority.public()])), "byte {at}");
        }
        for bad in ["", PREFIX, &made.text()[1..], &format!("{}=", made.text())] {
            assert_eq!(Revocation::parse(bad), Err(BadAuthority::Revocation), "{bad}");
        }
    }
}
