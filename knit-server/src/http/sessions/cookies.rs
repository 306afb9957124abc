//! Cookies: how they are called, written and read.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use knit_server_core::browser::SESSION_AGE_MAX;

/// A kind of cookie.
#[derive(Clone, Copy)]
pub struct Kind {
    name: &'static str,
    lasts: Duration,
    same_site: &'static str,
}

/// The secret of a session.
pub const SESSION: Kind =
    Kind { name: "knit_session", lasts: SESSION_AGE_MAX, same_site: "Strict" };
/// The secret of a form before there is a session.
pub const FORM: Kind =
    Kind { name: "knit_form", lasts: Duration::from_mins(30), same_site: "Strict" };

/// The secret of a login that the identity provider has to say something to. It comes along when
/// the provider sends the browser back, which `Strict` would not.
pub const PROVIDER: Kind =
    Kind { name: "knit_oidc", lasts: Duration::from_mins(10), same_site: "Lax" };

/// How cookies are written here.
#[derive(Debug, Clone, Copy)]
pub struct Cookies {
    /// Whether browsers come by TLS: then cookies go by nothing else, and no other host of the
    /// domain can set one of ours.
    pub is_secure: bool,
}

impl Cookies {
    fn name(self, kind: Kind) -> String {
        format!("{}{}", if self.is_secure { "__Host-" } else { "" }, kind.name)
    }

    pub fn set(self, kind: Kind, secret: &str) -> HeaderValue {
        self.written(kind, secret, kind.lasts)
    }

    /// With another time to last than such a cookie has by default.
    pub fn set_for(self, kind: Kind, secret: &str, lasts: Duration) -> HeaderValue {
        self.written(kind, secret, lasts)
    }

    pub fn clear(self, kind: Kind) -> HeaderValue {
        self.written(kind, "", Duration::ZERO)
    }

    fn written(self, kind: Kind, secret: &str, lasts: Duration) -> HeaderValue {
        let (name, secs, same_site) = (self.name(kind), lasts.as_secs(), kind.same_site);
        let secure = if self.is_secure { "; Secure" } else { "" };
        let text = format!(
            "{name}={secret}; Path=/; HttpOnly; SameSite={same_site}; Max-Age={secs}{secure}"
        );
        // Names and secrets are letters and digits.
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// What a cookie holds. Two of one name are none: somebody else's page set one of them.
    pub fn read(self, headers: &HeaderMap, kind: Kind) -> Option<&str> {
        let name = self.name(kind);
        let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut found = all
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value);
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_written_for_us_alone() {
        let plain = Cookies { is_secure: false };
        assert_eq!(
            plain.set(SESSION, "abc").to_str().unwrap(),
            "knit_session=abc; Path=/; HttpOnly; SameSite=Strict; Max-Age=86400"
        );
        let secure = Cookies { is_secure: true };
        assert_eq!(
            secure.clear(FORM).to_str().unwrap(),
            "__Host-knit_form=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0; Secure"
        );
    }

    #[test]
    fn a_cookie_is_read_by_its_whole_name_and_only_when_there_is_one() {
        let plain = Cookies { is_secure: false };
        for (text, found) in [
            ("knit_session=a", Some("a")),
            ("x=1; knit_session=a;y=2", Some("a")),
            ("xknit_session=a; knit_sessions=b", None),
            ("knit_session=a; knit_session=b", None),
            ("__Host-knit_session=a", None),
            ("knit_session", None),
            ("", None),
        ] {
            let headers = [(header::COOKIE, HeaderValue::from_static(text))].into_iter().collect();
            assert_eq!(plain.read(&headers, SESSION), found, "{text}");
        }
        let one = HeaderValue::from_static("__Host-knit_session=a; knit_session=b");
        let headers = [(header::COOKIE, one)].into_iter().collect();
        assert_eq!(Cookies { is_secure: true }.read(&headers, SESSION), Some("a"));
    }
}
