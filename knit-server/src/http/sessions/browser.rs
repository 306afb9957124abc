//! What is known of a browser, and whether a request of its is one of our own pages'.
//!
//! Invariant: a cookie alone changes nothing. What changes something shows the session's other
//! secret as well, and comes from a page of this server as far as the browser tells.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use knit_server_core::browser::{Sender, why_foreign};

use super::Pages;
use super::cookies::{Cookies, FORM, SESSION};
use crate::app::sessions::{CookieSecret, Session};
use crate::config::PublicUrl;
use crate::http::Shared;
use crate::http::access::Caller;
use crate::http::error::ApiError;
use crate::oidc::Provider;

/// By which a page's script shows the session's other secret.
const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
const TOO_OLD: &str = "This page was too old, or was sent by another one. Please try again.";

/// What was configured for browsers.
#[derive(Default)]
pub struct Web {
    pub pages: Pages,
    /// Where browsers reach this server, when that is not where it listens.
    pub public: Option<PublicUrl>,
    /// By whom else one can log in.
    pub provider: Option<Provider>,
}

impl Web {
    pub fn cookies(&self) -> Cookies {
        Cookies { is_secure: self.public.as_ref().is_some_and(PublicUrl::is_https) }
    }
}

/// A request's cookies, and what they are worth.
#[derive(Debug, Clone, Default)]
pub struct Browser {
    /// The secret of a form that was shown before.
    pub form: Option<CookieSecret>,
    session: Option<(CookieSecret, Session)>,
    /// Whether there was a session that is over.
    had_session: bool,
}

impl Browser {
    pub async fn of(shared: &Shared, headers: &HeaderMap) -> Self {
        if !headers.contains_key(header::COOKIE) {
            return Self::default();
        }
        let cookies = shared.web.cookies();
        let read = |kind| cookies.read(headers, kind).and_then(CookieSecret::parse);
        let form = read(FORM);
        let Some(secret) = read(SESSION) else { return Self { form, ..Self::default() } };
        let session = shared.app.session(&secret).await.map(|session| (secret, session));
        Self { form, had_session: session.is_none(), session }
    }

    pub fn session(&self) -> Option<&(CookieSecret, Session)> {
        self.session.as_ref()
    }

    /// Whether the cookie of a session came, of one that is over too.
    pub fn is_known(&self) -> bool {
        self.had_session || self.session.is_some()
    }

    pub fn caller(&self) -> Result<Caller, ApiError> {
        let over = || {
            let message = "your session is over: log in again at /login";
            ApiError::new(StatusCode::UNAUTHORIZED, "session-over", message)
        };
        self.session.as_ref().map(|(_, session)| Caller(session.actor.clone())).ok_or_else(over)
    }

    /// Refuses a request by cookie that changes something and that no page of ours sent.
    pub fn guard(&self, shared: &Shared, request: &Request) -> Result<(), ApiError> {
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let Some((secret, _)) = self.session.as_ref().filter(|_| !is_safe) else { return Ok(()) };
        let refuse = |why: String| ApiError::new(StatusCode::FORBIDDEN, "csrf", why);
        check_sender(&shared.web, request.headers()).map_err(refuse)?;
        let shown = request.headers().get(CSRF_HEADER).map(HeaderValue::as_bytes);
        if shown == Some(secret.csrf().as_bytes()) {
            return Ok(());
        }
        Err(refuse(
            "a request by cookie that changes something takes the header X-CSRF-Token with what \
             the page's csrf-token says; programs use a token instead"
                .to_owned(),
        ))
    }

    /// Whether a form that is sent before there is a session is the one that this browser was shown.
    pub fn check_form(&self, web: &Web, headers: &HeaderMap, shown: &str) -> Result<(), String> {
        check_sender(web, headers)?;
        match (&self.form, &web.public) {
            (Some(secret), _) if secret.csrf() == shown => Ok(()),
            (None, Some(public)) => Err(format!(
                "Your browser sent no cookie back. Does it take cookies, and did you come by {}?",
                public.origin()
            )),
            (None, None) => {
                Err("Your browser sent no cookie back, or the page was older than half \
                                 an hour. Please try again."
                    .to_owned())
            }
            (Some(_), _) => Err(TOO_OLD.to_owned()),
        }
    }

    /// Whether a form of a session's page was sent by such a page.
    pub fn check_page(&self, web: &Web, headers: &HeaderMap, shown: &str) -> Result<(), String> {
        check_sender(web, headers)?;
        match &self.session {
            Some((secret, _)) if secret.csrf() == shown => Ok(()),
            _ => Err(TOO_OLD.to_owned()),
        }
    }
}

fn check_sender(web: &Web, headers: &HeaderMap) -> Result<(), String> {
    let text = |name: HeaderName| {
        // What is no text is nobody's name.
        headers.get(name).map(|value| value.to_str().unwrap_or("null"))
    };
    let sender = Sender {
        site: text(HeaderName::from_static("sec-fetch-site")),
        origin: text(header::ORIGIN),
        host: text(header::HOST),
    };
    match why_foreign(sender, web.public.as_ref().map(PublicUrl::origin)) {
        Some(why) => Err(why),
        None => Ok(()),
    }
}
