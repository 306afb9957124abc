//! `network` and `networks`.

use super::super::check;
use super::super::problem::Position;
use super::super::reader::{Fields, Reader};

/// `network: NAME` and `networks: [NAME]` are one list.
pub(super) fn read(reader: &mut Reader, fields: &mut Fields<'_>) -> Vec<String> {
    let one = fields.take("network");
    let many = fields.take("networks");
    let mut names: Vec<String> = Vec::new();
    let mut add = |reader: &mut Reader, path: &str, at: Position, name: String| {
        if let Err(problem) = check::network_name(&name) {
            reader.report(path, at, problem);
        } else if names.contains(&name) {
            reader.report(path, at, format!("names \"{name}\" a second time"));
        } else {
            names.push(name);
        }
    };
    if let Some((path, node)) = one
        && let Some(name) = reader.text(node, &path, false)
    {
        add(reader, &path, node.at, name);
    }
    if let Some((path, node)) = many {
        for (path, item) in reader.list(node, &path) {
            if let Some(name) = reader.text(item, &path, false) {
                add(reader, &path, item.at, name);
            }
        }
    }
    names
}
