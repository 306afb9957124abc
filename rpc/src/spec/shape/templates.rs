//! `templates`.

use super::super::reader::{Fields, Reader};
use super::super::tree::Node;
use super::super::{TEMPLATE_MODE_DEFAULT, TemplateSpec, check, octal};
use super::leaf::parsed;

pub(super) fn read(reader: &mut Reader, fields: &mut Fields<'_>) -> Vec<TemplateSpec> {
    let Some((path, node)) = fields.take("templates") else { return Vec::new() };
    let items = reader.list(node, &path);
    items.into_iter().filter_map(|(path, item)| template(reader, item, &path)).collect()
}

fn template(reader: &mut Reader, node: &Node, path: &str) -> Option<TemplateSpec> {
    let mut fields = reader.map(node, path)?;
    let destination = fields
        .require(reader, "destination", "the absolute path of the file in the container")
        .and_then(|(path, node)| parsed(reader, node, &path, check::destination));
    let content = fields
        .require(reader, "content", "what the file holds")
        .and_then(|(path, node)| reader.text(node, &path, true));
    // The text as written counts, so that `0444` and `"0444"` agree; TOML has no leading zero and
    // writes a text.
    let mode = match fields.take("mode") {
        None => Some(TEMPLATE_MODE_DEFAULT),
        Some((path, node)) => parsed(reader, node, &path, |text| octal::parse(&text)),
    };
    let mut id = |key| match fields.take(key) {
        None => Some(0),
        Some((path, node)) => reader.number(node, &path, 0..=u32::MAX - 1),
    };
    let (uid, gid) = (id("uid"), id("gid"));
    reader.finish(&fields);
    Some(TemplateSpec {
        destination: destination?,
        content: content?,
        mode: mode?,
        uid: uid?,
        gid: gid?,
    })
}
