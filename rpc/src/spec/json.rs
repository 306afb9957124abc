//! JSON to a tree with positions: JSON's own grammar judges, YAML's reader finds the places.

use super::problem::{Position, Problem};
use super::tree::{Node, syntax};
use super::yaml;

/// Reads one JSON value.
pub(super) fn parse(text: &str) -> Result<(Node, Vec<Problem>), Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let at = Position::new(error.line().max(1), error.column().max(1));
        let told = error.to_string();
        let told = told.rsplit_once(" at line ").map_or(told.as_str(), |(reason, _)| reason);
        return Err(syntax(Some(at), format!("this is no JSON: {told}")));
    }
    yaml::parse(&without_tabs(text))
}

/// YAML forbids tabs where JSON allows them: between tokens. Inside strings JSON has none (they
/// are written `\t`), so every tab is white space, and a space holds its column.
fn without_tabs(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\t') { text.replace('\t', " ").into() } else { text.into() }
}
