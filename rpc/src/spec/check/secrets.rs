//! What is wrong with how secrets are used.

use std::collections::BTreeMap;

use super::super::{DeploymentSpec, OnChange, SECRETS_DIR, SECRETS_MAX, SecretUse};
use super::Problems;

pub(super) fn clashes(spec: &DeploymentSpec, problems: &mut Problems) {
    let secrets = &spec.instance.secrets;
    if secrets.len() > SECRETS_MAX {
        let message = format!("are {}; at most {SECRETS_MAX} are possible", secrets.len());
        problems.add("secrets", message);
    }
    let mut variables: BTreeMap<&str, String> =
        spec.instance.env.keys().map(|name| (name.as_str(), "env".to_owned())).collect();
    for (index, secret) in secrets.iter().enumerate() {
        let field = |key: &str| format!("secrets[{index}].{key}");
        if let (Some(_), Some(_)) = (&secret.env, &secret.file) {
            problems.add(field("env"), "is a variable or a file, not both");
        }
        if let Some(name) = &secret.env
            && let Some(earlier) = variables.insert(name, format!("secrets[{index}]"))
        {
            problems.add(field("env"), format!("{name} is set already: by {earlier}"));
        }
        if let Some((key, message)) = change(secret) {
            problems.add(field(key), message);
        }
        let unlike =
            |other: &&SecretUse| other.name == secret.name && other.on_change != secret.on_change;
        if secrets[..index].iter().any(|other| unlike(&other)) {
            let message = format!("{} has one on_change, wherever it goes", secret.name);
            problems.add(field("on_change"), message);
        }
    }
    directory(spec, problems);
}

/// What is wrong with what follows a change.
fn change(secret: &SecretUse) -> Option<(&'static str, String)> {
    if secret.on_change != OnChange::Signal {
        let message = "goes with on_change: signal alone";
        return secret.signal.is_some().then(|| ("signal", message.to_owned()));
    }
    if secret.env.is_some() {
        let message = "a running process keeps its variables: use a file, or rolling-restart";
        return Some(("on_change", message.to_owned()));
    }
    if secret.signal.is_none() {
        return Some(("signal", "is missing: on_change: signal sends which?".to_owned()));
    }
    if secret.name_in_directory().is_none() {
        let message = format!(
            "must be directly in {SECRETS_DIR} to be replaced in a running container; anywhere \
             else a file is mounted by itself and stays"
        );
        return Some(("file", message));
    }
    None
}

/// The directory of secrets is mounted as a whole, and read-only.
fn directory(spec: &DeploymentSpec, problems: &mut Problems) {
    let instance = &spec.instance;
    if !instance.secrets.iter().any(|secret| secret.name_in_directory().is_some()) {
        return;
    }
    let is_within = |path: &str| {
        let rest = path.strip_prefix(SECRETS_DIR);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let message = || format!("{SECRETS_DIR} is where the secrets are, and nothing else");
    for (index, template) in instance.templates.iter().enumerate() {
        if is_within(&template.destination) {
            problems.add(format!("templates[{index}].destination"), message());
        }
    }
    for (index, volume) in instance.volumes.iter().enumerate() {
        if is_within(&volume.path) {
            problems.add(format!("volumes[{index}].path"), message());
        }
    }
    for (index, tmpfs) in instance.tmpfs.iter().enumerate() {
        if is_within(tmpfs.split(':').next().unwrap_or_default()) {
            problems.add(format!("tmpfs[{index}]"), message());
        }
    }
    for (index, secret) in instance.secrets.iter().enumerate() {
        let path = secret.path().unwrap_or_default();
        if is_within(&path) && secret.name_in_directory().is_none() {
            let message = format!("must be directly in {SECRETS_DIR}, or outside of it");
            problems.add(format!("secrets[{index}].file"), message);
        }
    }
}
