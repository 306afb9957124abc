//! The pages' texts: Handlebars, where every value is escaped.

use axum::response::{Html, IntoResponse as _, Response};
use handlebars::Handlebars;
use knit_rpc::Timestamp;
use knit_rpc::access::Role;
use knit_rpc::id::ClusterId;
use knit_server_core::browser::SESSION_IDLE_MAX;
use serde_json::{Value, json};

use crate::app::AppError;
use crate::app::sessions::{CookieSecret, Session};
use crate::http::error::ApiError;

const PAGES: [(&str, &str); 4] = [
    ("layout", include_str!("../../../pages/layout.hbs")),
    ("login", include_str!("../../../pages/login.hbs")),
    ("home", include_str!("../../../pages/home.hbs")),
    ("message", include_str!("../../../pages/message.hbs")),
];

/// Every page, read once.
pub struct Pages(Handlebars<'static>);

/// What the login page shows.
pub struct LoginForm<'a> {
    pub form_token: &'a str,
    pub next: &'a str,
    /// What the identity provider is called, if there is one.
    pub provider: Option<&'a str>,
    pub problem: Option<&'a str>,
}

impl Default for Pages {
    fn default() -> Self {
        let mut engine = Handlebars::new();
        for (name, text) in PAGES {
            // A page that does not read is missing, which the first who asks for it is told.
            if let Err(error) = engine.register_template_string(name, text) {
                tracing::error!(%error, name, "a page does not read");
            }
        }
        Self(engine)
    }
}

impl Pages {
    pub fn login(&self, form: &LoginForm<'_>) -> Result<Response, ApiError> {
        let encoded: String = form.next.bytes().map(percent_encoded).collect();
        self.page(
            "login",
            &json!({
                "title": "Log in", "form_token": form.form_token, "next": form.next,
                "next_encoded": encoded, "provider": form.provider, "problem": form.problem,
            }),
        )
    }

    pub fn home(
        &self,
        cluster: &ClusterId,
        secret: &CookieSecret,
        session: &Session,
    ) -> Result<Response, ApiError> {
        let actor = &session.actor;
        self.page(
            "home",
            &json!({
                "title": "You are logged in", "csrf": secret.csrf(), "name": actor.name,
                "role": actor.role.as_str(), "scope": actor.scope.words(), "may": may(actor.role),
                "version": env!("CARGO_PKG_VERSION"), "cluster": cluster.as_str(),
                "idle": format!("{} hours", SESSION_IDLE_MAX.as_secs() / 3600),
                "ends": moment(session.expires_at), "ends_with_token": session.is_by_token,
            }),
        )
    }

    /// Goes on to a path from a page of ours, so that the browser sends along what it sends to
    /// nobody else's behest.
    pub fn go_on(&self, path: &str) -> Result<Response, ApiError> {
        self.page(
            "message",
            &json!({
                "title": "One moment", "refresh": path, "link": path, "link_text": "Go on",
                "text": "Your browser goes on by itself.",
            }),
        )
    }

    pub fn problem(&self, title: &str, text: &str, link: &str) -> Result<Response, ApiError> {
        self.page(
            "message",
            &json!({
                "title": title, "text": text, "link": link, "link_text": "Back",
                "is_problem": true,
            }),
        )
    }

    fn page(&self, name: &str, data: &Value) -> Result<Response, ApiError> {
        match self.0.render(name, data) {
            Ok(text) => Ok(Html(text).into_response()),
            Err(error) => Err(AppError::Internal(Box::new(error)).into()),
        }
    }
}

/// What a role may do, in the words of docs/access.md.
fn may(role: Role) -> Vec<&'static str> {
    let each = [
        (Role::Viewer, "look at deployments, instances, volumes, networks, events and nodes"),
        (Role::Deployer, "deploy, scale, restart, stop, roll back and remove; make networks"),
        (Role::Operator, "drain, cordon, label and remove nodes, let new ones in"),
        (Role::Admin, "make and remove projects, make and revoke tokens, read the audit"),
    ];
    each.into_iter().filter(|(least, _)| role >= *least).map(|(_, words)| words).collect()
}

fn moment(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| "no time".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

fn percent_encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || byte == b'/' {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_reads_and_escapes_what_it_shows() {
        let pages = Pages::default();
        for (name, _) in PAGES.iter().skip(1) {
            let evil = "\"><script>alert(1)</script>";
            let keys = ["title", "problem", "next", "name", "scope", "text", "link", "provider"];
            let data: Value = keys.iter().map(|key| ((*key).to_owned(), json!(evil))).collect();
            let text = pages.0.render(name, &data).unwrap();
            assert!(
                text.starts_with("<!doctype html>") && text.contains("&lt;script&gt;"),
                "{text}"
            );
            assert!(!text.contains("<script") && !text.contains("style="), "{text}");
        }
    }

    #[test]
    fn a_greater_role_may_more() {
        let counts: Vec<usize> = Role::ALL.into_iter().map(|role| may(role).len()).collect();
        assert_eq!(counts, [1, 2, 3, 4]);
    }
}
