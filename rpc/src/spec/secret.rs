//! Secrets as a manifest names them: which one, where it goes, what follows a change.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::octal;
use crate::id::SecretName;

/// Where a secret is in the container when the manifest says nothing: a directory of its own.
pub const SECRETS_DIR: &str = "/run/secrets";
/// Permission bits of a secret when the manifest says nothing: read by its owner alone.
pub const SECRET_MODE_DEFAULT: u32 = 0o400;
/// Secrets of one deployment, at most.
pub const SECRETS_MAX: usize = 64;

/// A secret that the containers get, as a file or as a variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretUse {
    #[schema(value_type = String)]
    pub name: SecretName,
    /// Absolute path of the file in the container; `/run/secrets/NAME` when neither is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Name of the variable instead of a file. It shows in `docker inspect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Permission bits; travels as octal digits such as `"0400"`.
    #[serde(default = "mode_default", with = "octal")]
    #[schema(value_type = String)]
    pub mode: u32,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
    /// What follows when the secret changes.
    #[serde(default)]
    pub on_change: OnChange,
    /// The signal of `on_change: signal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
}

/// What follows when a secret changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnChange {
    /// A new revision, rolled out as every other.
    #[default]
    RollingRestart,
    /// The file is replaced in the running containers, and they are sent a signal.
    Signal,
    /// Nothing: new instances get the new value.
    None,
}

impl OnChange {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RollingRestart => "rolling-restart",
            Self::Signal => "signal",
            Self::None => "none",
        }
    }
}

impl fmt::Display for OnChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl SecretUse {
    /// The file's path in the container; none when it goes into a variable.
    pub fn path(&self) -> Option<String> {
        match (&self.env, &self.file) {
            (Some(_), _) => None,
            (None, Some(path)) => Some(path.clone()),
            (None, None) => Some(format!("{SECRETS_DIR}/{}", self.name)),
        }
    }

    /// Its name in the directory that is mounted as a whole; none when it is mounted by itself.
    pub fn name_in_directory(&self) -> Option<String> {
        let path = self.path()?;
        let name = path.strip_prefix(SECRETS_DIR)?.strip_prefix('/')?;
        (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
    }
}

fn mode_default() -> u32 {
    SECRET_MODE_DEFAULT
}

/// The secrets that a template names: `{{secret.NAME}}`, or `{{secret.[NAME]}}`.
pub(super) fn named_in(content: &str) -> BTreeSet<SecretName> {
    let mut found = BTreeSet::new();
    for part in content.split("{{").skip(1) {
        let inside = part.split("}}").next().unwrap_or_default();
        for (at, _) in inside.match_indices("secret.") {
            let is_start = inside[..at].chars().next_back().is_none_or(|c| !is_word(c) && c != '.');
            let rest = inside[at + "secret.".len()..].trim_start_matches('[');
            let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
            if let Ok(name) = SecretName::parse(name)
                && is_start
            {
                found.insert(name);
            }
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '-' || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secrets_of_a_template_are_found() {
        for (content, names) in [
            ("no secret.a here", &[][..]),
            ("{{secret.db-password}}", &["db-password"]),
            ("a={{ secret.a }}\nb={{{secret.b}}} {{secret.a}}", &["a", "b"]),
            ("{{#if secret.flag}}x{{/if}}{{secret.[tls-key]}}", &["flag", "tls-key"]),
            ("{{env.secret.a}}{{mysecret.b}}{{secret.}}{{secret.Ä}}", &[]),
            ("{{#if (eq secret.a secret.b)}}", &["a", "b"]),
        ] {
            let found = named_in(content);
            let found: Vec<&str> = found.iter().map(SecretName::as_str).collect();
            assert_eq!(found, names, "{content}");
        }
    }

    #[test]
    fn a_secret_has_a_place_in_the_directory_unless_its_path_is_elsewhere() {
        let mut one: SecretUse = serde_json::from_str(r#"{"name": "db"}"#).unwrap();
        for (file, env, path, in_directory) in [
            (None, None, Some("/run/secrets/db"), Some("db")),
            (Some("/run/secrets/pw"), None, Some("/run/secrets/pw"), Some("pw")),
            (Some("/run/secrets/a/b"), None, Some("/run/secrets/a/b"), None),
            (Some("/etc/tls.key"), None, Some("/etc/tls.key"), None),
            (None, Some("DB"), None, None),
        ] {
            one.file = file.map(str::to_owned);
            one.env = env.map(str::to_owned);
            assert_eq!(one.path().as_deref(), path);
            assert_eq!(one.name_in_directory().as_deref(), in_directory);
        }
    }
}
