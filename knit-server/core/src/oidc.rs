//! Who an identity provider's word lets in, and as what.

use std::collections::BTreeSet;

use knit_rpc::access::{Role, Scope};
use knit_rpc::id::ProjectName;
use serde_json::{Map, Value};

/// What a provider says of somebody: the claims of its ID token and of its userinfo endpoint.
pub type Claims = Map<String, Value>;

const NAME_CHARS_MAX: usize = 120;

/// Lets in whose claim has a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub claim: String,
    /// The claim is this text, or a list that holds it.
    pub value: String,
    pub role: Role,
    /// Absent: all.
    pub projects: Option<BTreeSet<ProjectName>>,
}

/// What somebody is let in as: by the first rule that fits. `None`: not at all.
pub fn grant(rules: &[Rule], claims: &Claims) -> Option<(Role, Scope)> {
    let rule = rules.iter().find(|rule| fits(rule, claims))?;
    Some((rule.role, Scope::of(rule.projects.clone())))
}

fn fits(rule: &Rule, claims: &Claims) -> bool {
    // With many providers anybody may write any address into his own account.
    if rule.claim == "email" && claims.get("email_verified") != Some(&Value::Bool(true)) {
        return false;
    }
    match claims.get(&rule.claim) {
        Some(Value::String(text)) => *text == rule.value,
        Some(Value::Array(items)) => items.iter().any(|item| item.as_str() == Some(&rule.value)),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
    }
}

/// How somebody is called in the audit and in refusals: by a verified address where there is one,
/// and by what the provider never gives to anybody else.
pub fn actor_name(claims: &Claims) -> String {
    let text = |key| claims.get(key).and_then(Value::as_str).unwrap_or_default();
    let subject = printable(text("sub"));
    let is_verified = claims.get("email_verified") == Some(&Value::Bool(true));
    match printable(text("email")) {
        email if is_verified && !email.is_empty() => format!("oidc {email} ({subject})"),
        _ => format!("oidc {subject}"),
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        serde_json::from_value(value).unwrap()
    }

    fn rule(claim: &str, value: &str, role: Role, project: Option<&str>) -> Rule {
        let projects = project.map(|name| [name.parse().unwrap()].into());
        Rule { claim: claim.to_owned(), value: value.to_owned(), role, projects }
    }

    #[test]
    fn the_first_rule_that_fits_says_as_what() {
        let rules = [
            rule("groups", "admins", Role::Admin, None),
            rule("email", "eva@example.com", Role::Deployer, Some("shop")),
            rule("hd", "example.com", Role::Viewer, None),
        ];
        let shop = Scope::Projects(["shop".parse().unwrap()].into());
        for (told, expected) in [
            (
                json!({"groups": ["x", "admins"], "hd": "example.com"}),
                Some((Role::Admin, Scope::All)),
            ),
            (json!({"groups": "admins"}), Some((Role::Admin, Scope::All))),
            (
                json!({"email": "eva@example.com", "email_verified": true, "hd": "example.com"}),
                Some((Role::Deployer, shop)),
            ),
            (
                json!({"email": "eva@example.com", "email_verified": false, "hd": "example.com"}),
                Some((Role::Viewer, Scope::All)),
            ),
            (json!({"email": "eva@example.com"}), None),
            (json!({"email": "eva@example.com", "email_verified": "true"}), None),
            (json!({"groups": ["Admins", "admins2", ["admins"], {"admins": 1}]}), None),
            (json!({"groups": {"admins": true}, "hd": ["evil.com"]}), None),
            (json!({}), None),
        ] {
            assert_eq!(grant(&rules, &claims(told.clone())), expected, "{told}");
        }
        assert_eq!(grant(&[], &claims(json!({"groups": ["admins"]}))), None);
    }

    #[test]
    fn somebody_is_called_by_what_is_his_alone() {
        for (told, name) in [
            (json!({"sub": "7", "email": "e@x", "email_verified": true}), "oidc e@x (7)"),
            (json!({"sub": "7", "email": "root@x", "email_verified": false}), "oidc 7"),
            (json!({"sub": "a\u{1b}[2J\nb"}), "oidc a[2Jb"),
        ] {
            assert_eq!(actor_name(&claims(told)), name);
        }
    }
}
