//! The mesh secret: text that is never decoded, so `X` and `X=` are different meshes.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

const SCHEME: &str = "wgmesh://";
const LEN_MIN_BYTES: usize = 16;
const STRONG_MIN_BITS: f64 = 128.0;
/// What a character of a phrase in words is worth, generously.
const WORD_BITS_PER_CHAR: f64 = 2.0;
const DISTINCT_MIN: usize = 8;
/// Random bytes of a new secret.
pub const NEW_SECRET_BYTES: usize = 128;

/// Why text is no mesh secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    #[error("the mesh secret is empty")]
    Empty,
    #[error("the mesh secret has {0} bytes; at least {LEN_MIN_BYTES} are needed")]
    TooShort(usize),
}

/// The text every key of a mesh is derived from.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a bare secret or a `wgmesh://` URI; version and query of the URI are ignored.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let text = text.trim();
        let secret = match text.strip_prefix(SCHEME) {
            None => text,
            Some(rest) => match rest.split_once('/') {
                None => rest,
                Some((_version, secret)) => secret.split('?').next().unwrap_or_default(),
            },
        };
        match secret.len() {
            0 => Err(BadSecret::Empty),
            len if len < LEN_MIN_BYTES => Err(BadSecret::TooShort(len)),
            _ => Ok(Self(Zeroizing::new(secret.to_owned()))),
        }
    }

    /// Makes a new secret of random bytes.
    pub fn from_random(bytes: &[u8; NEW_SECRET_BYTES]) -> Self {
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// The form to hand to other nodes.
    pub fn uri(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{SCHEME}v1/{}", self.0.as_str()))
    }

    /// Whether it may hold under 128 bits. Announces and DHT keys can be tried against guesses
    /// without end, and nothing here is stretched.
    pub fn is_weak(&self) -> bool {
        let text = self.0.as_bytes();
        let distinct: BTreeSet<u8> = text.iter().copied().collect();
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        distinct.len() < DISTINCT_MIN || f64::from(len) * bits_per_char(text) < STRONG_MIN_BITS
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Guesses what a character is worth: words have letters of one case, random text mixes.
fn bits_per_char(text: &[u8]) -> f64 {
    if text.iter().all(u8::is_ascii_hexdigit) {
        return 4.0;
    }
    let count = |is: fn(&u8) -> bool| text.iter().filter(|byte| is(byte)).count();
    let classes = [
        (count(u8::is_ascii_lowercase), 26_u32),
        (count(u8::is_ascii_uppercase), 26),
        (count(u8::is_ascii_digit), 10),
    ];
    let mixed = classes.iter().filter(|(count, _)| count * 6 >= text.len()).count() >= 2;
    if !mixed {
        return WORD_BITS_PER_CHAR;
    }
    let present = classes.iter().filter(|(count, _)| *count > 0);
    f64::from(present.map(|(_, letters)| letters).sum::<u32>()).log2()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_secret_is_one_mesh() {
        let bare = Secret::parse("abcdefghijklmnop").unwrap();
        for spelling in [
            "wgmesh://v1/abcdefghijklmnop",
            "wgmesh://v2/abcdefghijklmnop?name=x",
            "wgmesh://abcdefghijklmnop",
            "  wgmesh://anything/abcdefghijklmnop\n",
        ] {
            assert_eq!(Secret::parse(spelling).unwrap(), bare, "{spelling}");
        }
        assert_ne!(Secret::parse("wgmesh://abcdefghijklmnop?x=1").unwrap(), bare);
        assert_ne!(Secret::parse("abcdefghijklmnop=").unwrap(), bare);
    }

    #[test]
    fn short_secrets_are_refused() {
        assert_eq!(Secret::parse("wgmesh://v1/"), Err(BadSecret::Empty));
        assert_eq!(Secret::parse("wgmesh://v1/short"), Err(BadSecret::TooShort(5)));
        let new = Secret::from_random(&std::array::from_fn(|index| u8::try_from(index).unwrap()));
        assert!(!new.is_weak());
        assert_eq!(new.uri().len(), 183);
        assert_eq!(Secret::parse(&new.uri()).unwrap(), new);
    }

    #[test]
    fn what_holds_under_128_bits_is_called_weak() {
        for (text, weak) in [
            ("abcdefghijklmnop", true),
            ("test-secret-that-is-long-enough", true),
            ("correct horse battery staple 2024", true),
            ("Correct Horse Battery Staple Once More", true),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", true),
            ("1212121212121212121212121212121212121212121212121212", true),
            ("T7fJq0xV2mYc9LrWb3Kd", true),
            ("T7fJq0xV2mYc9LrWb3KdZs", false),
            ("0f1e2d3c4b5a69788796a5b4c3d2e1f", true),
            ("0f1e2d3c4b5a69788796a5b4c3d2e1f0", false),
            ("ab1zk-9q2mx-77fjw-0c3ld-5vbtr-8sgph", false),
        ] {
            assert_eq!(Secret::parse(text).unwrap().is_weak(), weak, "{text}");
        }
    }
}
