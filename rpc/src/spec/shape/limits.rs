//! What the kernel bounds or allows: `ulimits`, `sysctls`, `tmpfs`, `shm_size`.

use std::collections::BTreeMap;

use super::super::reader::{Fields, Reader};
use super::super::tree::{Kind, Node, Value};
use super::super::{Bytes, InstanceSpec, Ulimit, check, words};
use super::leaf::{bytes, one_or_many, optional};

const SHM_MIN: Bytes = Bytes(64 << 10);
const SHM_MAX: Bytes = Bytes(1 << 50);

pub(super) fn read(reader: &mut Reader, fields: &mut Fields<'_>, spec: &mut InstanceSpec) {
    spec.ulimits = optional(reader, fields, "ulimits", ulimits).unwrap_or_default();
    spec.sysctls =
        fields.take("sysctls").map(|(path, node)| sysctls(reader, node, &path)).unwrap_or_default();
    spec.tmpfs = one_or_many(reader, fields, "tmpfs", |text| check::tmpfs(&text));
    spec.shm_size = bytes(reader, fields, "shm_size", SHM_MIN..=SHM_MAX);
}

fn ulimits(reader: &mut Reader, node: &Node, path: &str) -> Option<BTreeMap<String, Ulimit>> {
    let fields = reader.map(node, path)?;
    let mut limits = BTreeMap::new();
    for entry in fields.entries() {
        let path = format!("{path}.{}", entry.key);
        if let Err(problem) = words::ulimit(&entry.key) {
            reader.report(&path, entry.at, problem);
        } else if let Some(limit) = ulimit(reader, &entry.node, &path) {
            limits.insert(entry.key.clone(), limit);
        }
    }
    Some(limits)
}

/// A number for both bounds, or one each.
fn ulimit(reader: &mut Reader, node: &Node, path: &str) -> Option<Ulimit> {
    if let Value::Scalar { .. } = node.value {
        let both = bound(reader, node, path)?;
        return Some(Ulimit { soft: both, hard: both });
    }
    let mut fields = reader.map(node, path)?;
    let soft = fields
        .require(reader, "soft", "the bound that holds")
        .and_then(|(path, node)| bound(reader, node, &path));
    let hard = fields
        .require(reader, "hard", "what the bound may be raised to")
        .and_then(|(path, node)| bound(reader, node, &path));
    reader.finish(&fields);
    let (soft, hard) = (soft?, hard?);
    if hard != -1 && (soft == -1 || soft > hard) {
        reader.report(path, node.at, format!("soft ({soft}) must not be above hard ({hard})"));
    }
    Some(Ulimit { soft, hard })
}

fn bound(reader: &mut Reader, node: &Node, path: &str) -> Option<i64> {
    let told = match &node.value {
        Value::Scalar { text, kind: Kind::Number } => match text.parse::<i64>() {
            Ok(bound) if bound >= -1 => return Some(bound),
            _ => text.as_str(),
        },
        other @ (Value::Scalar { .. } | Value::List(_) | Value::Map(_)) => other.describe(),
    };
    reader.report(path, node.at, format!("must be a whole number, or -1 for none, not {told}"));
    None
}

fn sysctls(reader: &mut Reader, node: &Node, path: &str) -> BTreeMap<String, String> {
    let sysctls = reader.text_map(node, path);
    for name in sysctls.keys() {
        if let Err(problem) = check::sysctl(name) {
            reader.report(&format!("{path}.{name}"), node.at, problem);
        }
    }
    sysctls
}
