//! A certificate: the authority's word that a WireGuard key is a member, by what name, until when.
//!
//! Body, integers big-endian: key (32) · not before (8) · expires (8) · serial (8) · name length
//! (1) · name. The signature (64) follows.

use super::{
    AuthorityKey, AuthoritySecret, BadAuthority, SIGNATURE_LEN, decode, encode, number,
    number_bytes,
};
use crate::key::PublicKey;

const PREFIX: &str = "knit-cert-v1.";
const CONTEXT: &str = "knit-mesh-certificate-v1\n";
pub const NAME_MAX_BYTES: usize = 63;
/// Five years: a revocation need not be kept for longer.
pub const LIFETIME_MAX_SECS: i64 = 5 * 366 * 24 * 3600;
const FIXED_LEN: usize = 32 + 8 + 8 + 8 + 1;
const TEXT_MAX_BYTES: usize =
    PREFIX.len() + (FIXED_LEN + NAME_MAX_BYTES + SIGNATURE_LEN) * 4 / 3 + 2;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub key: PublicKey,
    pub name: String,
    /// Unix seconds; also the moment at which it was made.
    pub not_before: i64,
    /// Unix seconds.
    pub expires: i64,
    /// Differs between certificates of one key.
    pub serial: u64,
}

/// A certificate as it travels. Who reads it has verified nothing yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    terms: Terms,
    text: String,
    body: Vec<u8>,
    signature: [u8; SIGNATURE_LEN],
}

impl Certificate {
    pub fn sign(authority: &AuthoritySecret, terms: Terms) -> Result<Self, BadAuthority> {
        if !is_name(&terms.name) {
            return Err(BadAuthority::Name);
        }
        if !is_lifetime(&terms) {
            return Err(BadAuthority::Lifetime);
        }
        let mut body = Vec::with_capacity(FIXED_LEN + terms.name.len());
        body.extend_from_slice(&terms.key.to_bytes());
        body.extend_from_slice(&number_bytes(terms.not_before));
        body.extend_from_slice(&number_bytes(terms.expires));
        body.extend_from_slice(&terms.serial.to_be_bytes());
        body.push(u8::try_from(terms.name.len()).map_err(|_| BadAuthority::Name)?);
        body.extend_from_slice(terms.name.as_bytes());
        let signature = authority.sign(CONTEXT, &body);
        let text = encode(PREFIX, &[body.as_slice(), &signature].concat());
        Ok(Self { terms, text, body, signature })
    }

    pub fn parse(text: &str) -> Result<Self, BadAuthority> {
        Self::read(text).ok_or(BadAuthority::Certificate)
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > TEXT_MAX_BYTES {
            return None;
        }
        let bytes = decode(text, PREFIX)?;
        let (body, signature) = bytes.split_last_chunk::<SIGNATURE_LEN>()?;
        let (fixed, name) = body.split_at_checked(FIXED_LEN)?;
        if usize::from(fixed[FIXED_LEN - 1]) != name.len() {
            return None;
        }
        let key = PublicKey::from_bytes(fixed.get(..32)?.try_into().ok()?);
        let terms = Terms {
            // Goes by its text: the all-zero key is nobody's.
            key: key.as_str().parse().ok()?,
            not_before: number(fixed.get(32..40)?)?,
            expires: number(fixed.get(40..48)?)?,
            serial: u64::from_be_bytes(fixed.get(48..56)?.try_into().ok()?),
            name: std::str::from_utf8(name).ok()?.to_owned(),
        };
        let is_sound = is_name(&terms.name) && is_lifetime(&terms);
        is_sound.then(|| Self {
            terms,
            text: text.to_owned(),
            body: body.to_vec(),
            signature: *signature,
        })
    }

    /// Which of these authorities made it, if one did.
    pub fn signed_by(&self, authorities: &[AuthorityKey]) -> Option<AuthorityKey> {
        let signed = |key: &&AuthorityKey| key.verifies(CONTEXT, &self.body, &self.signature);
        authorities.iter().find(signed).copied()
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_MAX_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_lifetime(terms: &Terms) -> bool {
    let lifetime = terms.expires.saturating_sub(terms.not_before);
    terms.not_before >= 0 && (1..=LIFETIME_MAX_SECS).contains(&lifetime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    fn authority(number: u8) -> AuthoritySecret {
        AuthoritySecret::from_random(&[number; 32])
    }

    fn terms() -> Terms {
        Terms {
            key: PrivateKey::from_random([1; 32]).public(),
            name: "web-1.example".to_owned(),
            not_before: 1_800_000_000,
            expires: 1_800_086_400,
            serial: 42,
        }
    }

    #[test]
    fn a_certificate_is_read_back_and_names_its_authority() {
        let made = Certificate::sign(&authority(7), terms()).unwrap();
        let read = Certificate::parse(made.text()).unwrap();
        assert_eq!(read, made);
        assert_eq!(read.terms(), &terms());
        let both = [authority(8).public(), authority(7).public()];
        assert_eq!(read.signed_by(&both), Some(both[1]));
        assert_eq!(read.signed_by(&both[..1]), None);
        assert_eq!(read.signed_by(&[]), None);
    }

    #[test]
    fn no_changed_certificate_verifies() {
        let made = Certificate::sign(&authority(7), terms()).unwrap();
        let bytes = decode(made.text(), PREFIX).unwrap();
        for at in 0..bytes.len() {
            for bit in [1, 0x80] {
                let mut changed = bytes.to_vec();
                changed[at] ^= bit;
                let text = encode(PREFIX, &changed);
                let verified = Certificate::parse(&text)
                    .is_ok_and(|read| read.signed_by(&[authority(7).public()]).is_some());
                assert!(!verified, "byte {at}");
            }
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let made = Certificate::sign(&authority(7), terms()).unwrap();
        let (text, bytes) = (made.text(), decode(made.text(), PREFIX).unwrap());
        let zero_key = [&[0; 32], &bytes[32..]].concat();
        for bad in [
            String::new(),
            PREFIX.to_owned(),
            text[1..].to_owned(),
            text[..text.len() - 1].to_owned(),
            format!("{text}="),
            format!("{text} "),
            format!("{text}AAAA"),
            text.replace("v1", "v2"),
            encode(PREFIX, &bytes[1..]),
            encode(PREFIX, &bytes[..FIXED_LEN]),
            encode(PREFIX, &[&bytes[..], &[0]].concat()),
            encode(PREFIX, &zero_key),
            encode(PREFIX, &[0xff; 200]),
            "A".repeat(100_000),
        ] {
            assert_eq!(Certificate::parse(&bad), Err(BadAuthority::Certificate), "{bad:.60}");
        }
    }

    #[test]
    fn only_sound_terms_are_signed() {
        let sign = |change: fn(&mut Terms)| {
            let mut terms = terms();
            change(&mut terms);
            Certificate::sign(&authority(7), terms).map(|made| {
                assert!(Certificate::parse(made.text()).is_ok(), "what is signed can be read");
            })
        };
        assert_eq!(sign(|terms| terms.name = "x".repeat(63)), Ok(()));
        assert_eq!(sign(|terms| terms.expires = terms.not_before + LIFETIME_MAX_SECS), Ok(()));
        for name in ["", "a b", "a\n", "é", &"x".repeat(64)] {
            let named = Terms { name: name.to_owned(), ..terms() };
            assert_eq!(Certificate::sign(&authority(7), named), Err(BadAuthority::Name), "{name}");
        }
        for change in [
            (|terms| terms.expires = terms.not_before) as fn(&mut Terms),
            |terms| terms.expires = i64::MAX,
            |terms| terms.not_before = -1,
        ] {
            assert_eq!(sign(change), Err(BadAuthority::Lifetime));
        }
    }
}
