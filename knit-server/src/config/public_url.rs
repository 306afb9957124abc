//! Where browsers reach the server.

use std::str::FromStr;

use serde::Deserialize;

/// An address of this server as browsers know it: scheme, host and port, no path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicUrl(String);

/// Why a text is no [`PublicUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no address for browsers: write https://HOST or https://HOST:PORT, without a path"
)]
pub struct NoPublicUrl(String);

impl PublicUrl {
    pub fn origin(&self) -> &str {
        &self.0
    }

    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for PublicUrl {
    type Err = NoPublicUrl;

    fn from_str(text: &str) -> Result<Self, NoPublicUrl> {
        let no = || NoPublicUrl(text.to_owned());
        let origin = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        let host = host.filter(|host| !host.is_empty()).ok_or_else(no)?;
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        if host.bytes().all(is_host) { Ok(Self(origin)) } else { Err(no()) }
    }
}

impl TryFrom<String> for PublicUrl {
    type Error = NoPublicUrl;

    fn try_from(text: String) -> Result<Self, NoPublicUrl> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_browsers_has_no_path() {
        for (text, origin) in [
            ("https://knit.example", Some("https://knit.example")),
            ("HTTPS://Knit.Example:8443/", Some("https://knit.example:8443")),
            ("http://[fd00::1]:7400", Some("http://[fd00::1]:7400")),
            ("https://", None),
            ("knit.example", None),
            ("https://knit.example/knit", None),
            ("https://user@knit.example", None),
        ] {
            let read = text.parse::<PublicUrl>().ok();
            assert_eq!(read.as_ref().map(PublicUrl::origin), origin, "{text}");
        }
    }
}
