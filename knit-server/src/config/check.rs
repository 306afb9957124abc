//! `knit-server check-config`: what keeps a server from starting with a file, found beforehand.
//!
//! Invariant: nothing is made, changed or connected to.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use knit_runtime::config::readable;

use super::{Config, Options};
use crate::vault::MasterKeySource;

impl Config {
    /// Reads the file at `path` and those that it names.
    pub fn check(path: &Path) -> anyhow::Result<()> {
        let flags = Options { config: Some(PathBuf::from(path)), ..Options::default() };
        let config = Self::load(flags)?;
        if let Some(tls) = &config.nats_tls {
            readable(path, "nats_tls_cert", Some(&tls.cert))?;
            readable(path, "nats_tls_key", Some(&tls.key))?;
        }
        readable(path, "nats_tls_ca", config.nats_ca.as_deref())?;
        let secret = config.oidc.as_ref().and_then(|oidc| oidc.client_secret_file.as_deref());
        readable(path, "oidc.client_secret_file", secret)?;
        if let MasterKeySource::Named(_) = &config.master_key {
            let checked = config.master_key.check();
            checked.with_context(|| format!("{}: master_key_file", path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a file with this text; nothing when it is right.
    fn told(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.toml");
        std::fs::write(&path, text.replace("DIR", dir.path().to_str().unwrap())).unwrap();
        std::fs::write(dir.path().join("key"), "x").unwrap();
        let checked = Config::check(&path);
        let kept = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(kept, 2, "{text}: nothing is made");
        checked.err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_is_told_and_nothing_is_made() {
        assert_eq!(told("state_dir = \"DIR/state\"\nport = 7400\n"), "");
        assert_eq!(told(""), "");
        for (text, words) in [
            ("prot = 1", "unknown field `prot`"),
            ("port = 70000", "server.toml is not a valid configuration"),
            ("container_subnet = \"10.0.0.0/33\"", "line 1"),
            ("nats_tls_cert = \"DIR/none\"", "nats_tls_cert names"),
            ("nats_tls_cert = \"DIR/key\"\nnats_tls_key = \"DIR/none\"", "nats_tls_key names"),
            ("nats_tls_ca = \"DIR/none\"", "nats_tls_ca names"),
            ("master_key_file = \"DIR/none\"", "server.toml: master_key_file: "),
            ("master_key_file = \"DIR/key\"", "server.toml: master_key_file: "),
            (
                "[oidc]\nissuer = \"https://x\"\nclient_id = \"knit\"",
                "oidc.redirect_url is missing",
            ),
        ] {
            let told = told(text);
            assert!(told.contains(words), "{text}: {told}");
        }
    }
}
