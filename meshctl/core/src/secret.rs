//! The mesh secret: text that is never decoded, so `X` and `X=` are different meshes.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::derive::{BadPin, Pin};

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
    #[error(transparent)]
    Pin(#[from] BadPin),
}

/// The text every key of a mesh is derived from.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: Zeroizing<String>,
    pin: Option<Pin>,
}

impl Secret {
    /// Takes a bare secret or a `wgmesh://` URI. Its version is ignored, and its query but for the
    /// `pin` of a secret that followed another one.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let text = text.trim();
        let (secret, query) = match text.strip_prefix(SCHEME) {
            None => (text, ""),
            Some(rest) => match rest.split_once('/') {
                None => (rest, ""),
                Some((_version, secret)) => secret.split_once('?').unwrap_or((secret, "")),
            },
        };
        let pin = query.split('&').find_map(|pair| pair.strip_prefix("pin="));
        let pin = pin.map(str::parse).transpose()?;
        match secret.len() {
            0 => Err(BadSecret::Empty),
            len if len < LEN_MIN_BYTES => Err(BadSecret::TooShort(len)),
            _ => Ok(Self { text: Zeroizing::new(secret.to_owned()), pin }),
        }
    }

    /// Makes a new secret of random bytes.
    pub fn from_random(bytes: &[u8; NEW_SECRET_BYTES]) -> Self {
        Self { text: Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes)), pin: None }
    }

    /// The same text as one that follows another secret of the mesh that this pin is of.
    #[must_use]
    pub fn pinned(self, pin: Pin) -> Self {
        Self { pin: Some(pin), ..self }
    }

    pub fn pin(&self) -> Option<Pin> {
        self.pin
    }

    /// Whether the same keys come out of it.
    pub fn same_text(&self, other: &Self) -> bool {
        self.text == other.text
    }

    /// By what nodes tell which secret they mean.
    pub fn id(&self) -> String {
        hex::encode(crate::derive::secret_id(self))
    }

    /// The form to hand to other nodes.
    pub fn uri(&self) -> Zeroizing<String> {
        let text = self.text.as_str();
        Zeroizing::new(match self.pin {
            None => format!("{SCHEME}v1/{text}"),
            Some(pin) => format!("{SCHEME}v1/{text}?pin={pin}"),
        })
    }

    /// Whether it may hold under 128 bits. Announces and DHT keys can be tried against guesses
    /// without end, and nothing here is stretched.
    pub fn is_weak(&self) -> bool {
        let text = self.text.as_bytes();
        let distinct: BTreeSet<u8> = text.iter().copied().collect();
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        distinct.len() < DISTINCT_MIN || f64::from(len) * bits_per_char(text) < STRONG_MIN_BITS
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
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
    use crate::derive::MeshKeys;

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
    fn a_pin_travels_in_the_query_and_a_damaged_one_is_refused() {
        let first = MeshKeys::derive(&Secret::parse("the first secret of a test").unwrap());
        let next = Secret::parse("the second secret of a test").unwrap();
        assert_ne!(Pin::of(&MeshKeys::derive(&next)), Pin::of(&first));
        let next = next.pinned(Pin::of(&first));
        let read = Secret::parse(&next.uri()).unwrap();
        assert_eq!(read, next);
        let keys = MeshKeys::derive(&read);
        assert_eq!(Pin::of(&keys), Pin::of(&first));
        assert_eq!((keys.gossip_port, keys.v6_prefix), (first.gossip_port, first.v6_prefix));
        assert_ne!(keys.gossip_key, first.gossip_key);
        let uri = next.uri();
        for bad in [
            format!("{}A", uri.as_str()),
            uri[..uri.len() - 1].to_owned(),
            uri.replace("pin=", "pin=!"),
            format!("{}pin=", uri.split("pin=").next().unwrap()),
            // A port that no mesh has.
            "wgmesh://v1/abcdefghijklmnop?pin=AAAAAAAAAAAAAAAAAA".to_owned(),
        ] {
            assert_eq!(Secret::parse(&bad), Err(BadSecret::Pin(BadPin)), "{bad}");
        }
        let others = Secret::parse("wgmesh://v1/abcdefghijklmnop?name=x&pin=").unwrap_err();
        assert_eq!(others, BadSecret::Pin(BadPin));
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
