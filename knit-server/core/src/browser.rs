//! Browsers: how long somebody stays logged in, and what a request must show that it is ours.
//!
//! A cookie comes with every request that a browser sends here, whichever page made it send one.
//! So what is authenticated by a cookie and changes something has to come from a page of this
//! server, by the browser's own word, and to carry a secret that only such a page can read.

use std::time::Duration;

use knit_rpc::Timestamp;

/// A session that is not used for so long is over.
pub const SESSION_IDLE_MAX: Duration = Duration::from_hours(2);
/// A session that was opened with a token is over after so long, used or not.
pub const SESSION_AGE_MAX: Duration = Duration::from_hours(24);
/// Characters of a path to go on to, at most.
const NEXT_CHARS_MAX: usize = 1024;

/// Whether a session is over at `now`.
pub fn is_over(used_at: Timestamp, expires_at: Timestamp, now: Timestamp) -> bool {
    expires_at <= now || now.since(used_at) >= SESSION_IDLE_MAX
}

/// Where to go on to after logging in: what lies on this server, else its first page.
pub fn local_path(next: &str) -> &str {
    let is_path = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains('\\')
        && next.len() <= NEXT_CHARS_MAX
        && next.bytes().all(|byte| byte.is_ascii_graphic());
    let leads_back = ["/login", "/logout"].iter().any(|page| next.starts_with(page));
    if is_path && !leads_back { next } else { "/" }
}

/// What a browser says of the page that sent a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sender<'a> {
    /// `Sec-Fetch-Site`.
    pub site: Option<&'a str>,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Host`: what the browser takes this server to be called.
    pub host: Option<&'a str>,
}

/// Why a request is not taken for one of this server's own pages; `public` is the origin under
/// which browsers know it, where that is another than what they ask here.
pub fn why_foreign(sender: Sender<'_>, public: Option<&str>) -> Option<String> {
    if let Some(site) = sender.site.filter(|site| *site != "same-origin") {
        return Some(format!("Your browser says that a page of elsewhere sent this ({site})."));
    }
    let origin = sender.origin?;
    let own = |host: &str| {
        let bare = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        bare.is_some_and(|bare| bare.eq_ignore_ascii_case(host))
    };
    if sender.host.is_some_and(own) || public.is_some_and(|public| public == origin) {
        return None;
    }
    Some(format!(
        "A page of {origin} sent this, and this server is {}. Behind a proxy that changes the \
         name, tell the server its own with --public-url.",
        public.or(sender.host).unwrap_or("without a name")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_here_is_gone_on_to() {
        for good in ["/", "/v1/deployments?project=shop", "/a#b", "/%2F%2Fevil"] {
            assert_eq!(local_path(good), good);
        }
        for bad in [
            "",
            "evil",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil",
            "https://evil.example",
            "/\t/evil.example",
            "/a\r\nSet-Cookie: x",
            "javascript:alert(1)",
            "/login",
            "/login/oidc?next=/",
            "/logout",
            "/é",
            &format!("/{}", "a".repeat(NEXT_CHARS_MAX)),
        ] {
            assert_eq!(local_path(bad), "/", "{bad:?}");
        }
    }

    #[test]
    fn a_request_must_come_from_a_page_of_ours() {
        let here = Some("10.0.0.1:7400");
        for (site, origin, public, ours) in [
            (None, None, None, true),
            (Some("same-origin"), None, None, true),
            (Some("same-origin"), Some("http://10.0.0.1:7400"), None, true),
            (None, Some("https://10.0.0.1:7400"), None, true),
            (None, Some("https://knit.example"), Some("https://knit.example"), true),
            (None, Some("http://10.0.0.1:7400"), Some("https://knit.example"), true),
            (Some("same-site"), None, None, false),
            (Some("cross-site"), None, None, false),
            (Some("none"), None, None, false),
            (Some("cross-site"), Some("http://10.0.0.1:7400"), None, false),
            (None, Some("null"), None, false),
            (None, Some("http://10.0.0.1:8080"), None, false),
            (None, Some("http://10.0.0.1:7400.evil.example"), None, false),
            (None, Some("http://evil.example"), Some("https://knit.example"), false),
            (None, Some("http://knit.example"), Some("https://knit.example"), false),
        ] {
            let why = why_foreign(Sender { site, origin, host: here }, public);
            assert_eq!(why.is_none(), ours, "{site:?} {origin:?} {public:?}: {why:?}");
        }
        assert!(
            why_foreign(Sender { origin: Some("http://a"), ..Sender::default() }, None).is_some()
        );
    }

    #[test]
    fn a_session_ends_unused_or_old() {
        let at = |mins: u64| Timestamp::from_millis(mins * 60_000);
        for (used, expires, now, over) in [
            (0, 1440, 119, false),
            (0, 1440, 120, true),
            (1400, 1440, 1439, false),
            (1439, 1440, 1440, true),
        ] {
            assert_eq!(is_over(at(used), at(expires), at(now)), over, "{used} {expires} {now}");
        }
    }
}
