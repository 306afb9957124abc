//! The table `oidc` of the configuration file: who may log in by an identity provider.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use knit_rpc::access::Role;
use knit_rpc::id::ProjectName;
use knit_rpc::spec::Span;
use knit_server_core::oidc::Rule;
use serde::Deserialize;

use super::PublicUrl;

/// Where the provider sends browsers back to, below the public address.
pub const CALLBACK_PATH: &str = "/login/oidc/callback";
const SESSION_DEFAULT: Duration = Duration::from_hours(12);
const SESSION_MAX: Duration = Duration::from_hours(7 * 24);

/// Who may log in by an identity provider; nobody without this table
// `Args` for the doc comments: the file's reference is made of them.
#[derive(Debug, Clone, PartialEq, Eq, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcTable {
    /// The provider's address, as its own documents write it
    #[arg(value_name = "URL")]
    pub issuer: String,
    /// What the provider knows this server as
    pub client_id: String,
    /// A file with the secret that belongs to it; a client without one proves itself by PKCE alone
    #[arg(value_name = "FILE")]
    pub client_secret_file: Option<PathBuf>,
    /// Where the provider sends browsers back to [default: `public_url` and /login/oidc/callback]
    #[arg(value_name = "URL")]
    pub redirect_url: Option<String>,
    /// What is asked for besides `openid` [default: email]
    pub scopes: Option<Vec<String>>,
    /// What the button calls the provider [default: the issuer's host]
    pub name: Option<String>,
    /// How long somebody stays logged in [default: 12h]
    #[arg(value_name = "TIME")]
    pub session: Option<String>,
    /// Who may log in, and as what
    #[arg(skip)]
    #[serde(default)]
    pub allow: Vec<Allow>,
}

/// Whom the provider's claims let in, and as what: the first rule that fits counts
#[derive(Debug, Clone, PartialEq, Eq, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// A claim, such as `groups` or `email`
    pub claim: String,
    /// Its value, or one of them
    pub value: String,
    /// viewer, deployer, operator or admin
    pub role: Role,
    /// The only projects in which the role holds [default: every project]
    pub projects: Option<Vec<ProjectName>>,
}

/// What it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oidc {
    pub issuer: String,
    pub client_id: String,
    pub client_secret_file: Option<PathBuf>,
    pub redirect_url: String,
    pub scopes: Vec<String>,
    pub name: String,
    pub session: Duration,
    pub rules: Vec<Rule>,
}

/// Why the table makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("oidc.{field} {problem}")]
pub struct OidcProblem {
    field: &'static str,
    problem: String,
}

impl OidcTable {
    pub(super) fn complete(self, public: Option<&PublicUrl>) -> Result<Oidc, OidcProblem> {
        let wrong = |field, problem: &str| OidcProblem { field, problem: problem.to_owned() };
        if !is_safe(&self.issuer) {
            return Err(wrong("issuer", "must be an https:// address, or http:// on loopback"));
        }
        let own = || public.map(|public| format!("{}{CALLBACK_PATH}", public.origin()));
        let redirect_url = self.redirect_url.or_else(own).ok_or_else(|| {
            wrong("redirect_url", "is missing: name it, or say public_url, from which it follows")
        })?;
        if !redirect_url.ends_with(CALLBACK_PATH) {
            return Err(wrong("redirect_url", &format!("must end with {CALLBACK_PATH}")));
        }
        let session = match self.session.as_deref().map(Span::parse) {
            None => SESSION_DEFAULT,
            Some(Ok(span)) => span.duration(),
            Some(Err(why)) => return Err(wrong("session", &why)),
        };
        if session.is_zero() || session > SESSION_MAX {
            return Err(wrong("session", "must be a time up to 168h"));
        }
        if self.allow.is_empty() {
            return Err(wrong("allow", "is missing: without one rule nobody may log in"));
        }
        for rule in &self.allow {
            if rule.claim.is_empty() || rule.value.is_empty() {
                return Err(wrong("allow", "must name a claim and its value"));
            }
            if rule.projects.as_ref().is_some_and(Vec::is_empty) {
                return Err(wrong("allow.projects", "must name one, or be left out for all"));
            }
        }
        let host = self.issuer.split("://").nth(1).and_then(|rest| rest.split('/').next());
        let name = self.name.unwrap_or_else(|| host.unwrap_or_default().to_owned());
        Ok(Oidc {
            client_id: self.client_id,
            client_secret_file: self.client_secret_file,
            redirect_url,
            scopes: self.scopes.unwrap_or_else(|| vec!["email".to_owned()]),
            name,
            session,
            rules: self.allow.into_iter().map(Allow::into_rule).collect(),
            issuer: self.issuer,
        })
    }
}

impl Allow {
    fn into_rule(self) -> Rule {
        let projects = self.projects.map(BTreeSet::from_iter);
        Rule { claim: self.claim, value: self.value, role: self.role, projects }
    }
}

/// What the provider says must come unchanged: by TLS, or from this host.
fn is_safe(issuer: &str) -> bool {
    let host = |rest: &str| rest.split(['/', ':']).next().unwrap_or_default().to_owned();
    match issuer.split_once("://") {
        Some(("https", rest)) => !host(rest).is_empty(),
        Some(("http", rest)) => ["127.0.0.1", "localhost"].contains(&host(rest).as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn completed(change: &Value, public: Option<&str>) -> Result<Oidc, String> {
        let mut table = json!({
            "issuer": "https://id.example/realms/x", "client_id": "knit",
            "allow": [{"claim": "groups", "value": "admins", "role": "admin"}],
        });
        for (key, value) in change.as_object().unwrap() {
            table[key] = value.clone();
        }
        let table: OidcTable = serde_json::from_value(table).map_err(|error| error.to_string())?;
        let public = public.map(|public| public.parse().unwrap());
        table.complete(public.as_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_follows_from_the_rest() {
        let found = completed(&json!({}), Some("https://knit.example")).unwrap();
        assert_eq!(found.redirect_url, "https://knit.example/login/oidc/callback");
        assert_eq!((found.name.as_str(), found.session), ("id.example", SESSION_DEFAULT));
        assert_eq!(found.scopes, ["email"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let rule = |projects: Value| json!([{"claim": "a", "value": "b", "role": "viewer", "projects": projects}]);
        for (change, start) in [
            (json!({"issuer": "http://id.example"}), "oidc.issuer must be an https:// address"),
            (json!({"issuer": "http://127.0.0.1.evil.example"}), "oidc.issuer"),
            (json!({"issuer": "https://"}), "oidc.issuer"),
            (json!({"redirect_url": "https://x/cb"}), "oidc.redirect_url must end with"),
            (json!({"session": "8d"}), "oidc.session"),
            (json!({"session": "200h"}), "oidc.session must be a time up to 168h"),
            (json!({"allow": []}), "oidc.allow is missing"),
            (json!({"allow": rule(json!([]))}), "oidc.allow.projects must name one"),
            (json!({"allow": rule(json!(["Shop"]))}), "project name \"Shop\""),
            (json!({"alow": 1}), "unknown field `alow`"),
        ] {
            let told = completed(&change, Some("https://knit.example")).unwrap_err();
            assert!(told.starts_with(start), "{change}: {told}");
        }
        let told = completed(&json!({}), None).unwrap_err();
        assert!(told.starts_with("oidc.redirect_url is missing"), "{told}");
    }
}
