//! The mesh secret: text that is never decoded, so `X` and `X=` are different meshes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

const SCHEME: &str = "wgmesh://";
const LEN_MIN_BYTES: usize = 16;
/// Fewer characters than this carry under 128 bits even when they are random base64.
const STRONG_MIN_CHARS: usize = 22;
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

    pub fn is_weak(&self) -> bool {
        self.0.len() < STRONG_MIN_CHARS
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
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
    fn short_secrets_are_refused_and_short_random_ones_called_weak() {
        assert_eq!(Secret::parse("wgmesh://v1/"), Err(BadSecret::Empty));
        assert_eq!(Secret::parse("wgmesh://v1/short"), Err(BadSecret::TooShort(5)));
        assert!(Secret::parse("abcdefghijklmnop").unwrap().is_weak());
        let new = Secret::from_random(&[7; NEW_SECRET_BYTES]);
        assert!(!new.is_weak());
        assert_eq!(new.uri().len(), 183);
        assert_eq!(Secret::parse(&new.uri()).unwrap(), new);
    }
}
