//! `secrets`.

use super::super::reader::{Fields, Reader};
use super::super::tree::Node;
use super::super::{OnChange, SECRET_MODE_DEFAULT, SecretUse, check, octal, words};
use super::leaf::{choice, optional_text, parsed};
use crate::id::SecretName;

const ON_CHANGE: [(&str, OnChange); 3] = [
    ("rolling-restart", OnChange::RollingRestart),
    ("signal", OnChange::Signal),
    ("none", OnChange::None),
];

pub(super) fn read(reader: &mut Reader, fields: &mut Fields<'_>) -> Vec<SecretUse> {
    // What the server filled in stands in a spec that it shows, and it fills it in anew.
    for filled_in in ["secret_versions", "secret_kib"] {
        fields.take(filled_in);
    }
    let Some((path, node)) = fields.take("secrets") else { return Vec::new() };
    let items = reader.list(node, &path);
    items.into_iter().filter_map(|(path, item)| secret(reader, item, &path)).collect()
}

fn secret(reader: &mut Reader, node: &Node, path: &str) -> Option<SecretUse> {
    let mut fields = reader.map(node, path)?;
    let name = fields
        .require(reader, "name", "the secret's name within the project")
        .and_then(|(path, node)| parsed(reader, node, &path, SecretName::parse));
    let file = optional_text(reader, &mut fields, "file", check::destination);
    let env = optional_text(reader, &mut fields, "env", check::variable);
    let mode = match fields.take("mode") {
        None => Some(SECRET_MODE_DEFAULT),
        Some((path, node)) => parsed(reader, node, &path, |text| octal::parse(&text)),
    };
    let mut id = |key| match fields.take(key) {
        None => Some(0),
        Some((path, node)) => reader.number(node, &path, 0..=u32::MAX - 1),
    };
    let (uid, gid) = (id("uid"), id("gid"));
    let on_change = choice(reader, &mut fields, "on_change", &ON_CHANGE).unwrap_or_default();
    let signal = optional_text(reader, &mut fields, "signal", |text| words::signal(&text));
    reader.finish(&fields);
    Some(SecretUse { name: name?, file, env, mode: mode?, uid: uid?, gid: gid?, on_change, signal })
}
