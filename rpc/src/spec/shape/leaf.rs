//! Single values: texts that mean something, words of a choice, quantities within bounds.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use super::super::quantity::{Bytes, Span};
use super::super::reader::{Fields, Reader};
use super::super::tree::{Kind, Node, Value};

/// A key that may be absent, read by `read`. What is wrong has been reported, so the caller may
/// put anything in its place.
pub(super) fn optional<T>(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    key: &'static str,
    read: impl FnOnce(&mut Reader, &Node, &str) -> Option<T>,
) -> Option<T> {
    let (path, node) = fields.take(key)?;
    read(reader, node, &path)
}

/// A text that must parse as something more.
pub(super) fn parsed<T, E: fmt::Display>(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> Option<T> {
    let text = reader.text(node, path, true)?;
    match parse(text) {
        Ok(value) => Some(value),
        Err(problem) => {
            reader.report(path, node.at, problem.to_string());
            None
        }
    }
}

/// An optional text that must parse as something more.
pub(super) fn optional_text<T, E: fmt::Display>(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    key: &'static str,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> Option<T> {
    optional(reader, fields, key, |reader, node, path| parsed(reader, node, path, parse))
}

/// One word out of a few.
pub(super) fn choice<T: Copy>(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    key: &'static str,
    choices: &[(&str, T)],
) -> Option<T> {
    optional_text(reader, fields, key, |text| {
        let found = choices.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            let (last, others) = words.split_last().unwrap_or((&"", &[]));
            format!("must be {} or {last}, not \"{text}\"", others.join(", "))
        })
    })
}

/// `true` or `false`; false when absent.
pub(super) fn flag(reader: &mut Reader, fields: &mut Fields<'_>, key: &'static str) -> bool {
    let read = |reader: &mut Reader, node: &Node, path: &str| match &node.value {
        Value::Scalar { text, kind: Kind::Bool } => Some(text.eq_ignore_ascii_case("true")),
        other @ (Value::Scalar { .. } | Value::List(_) | Value::Map(_)) => {
            let message = format!("must be true or false, not {}", other.describe());
            reader.report(path, node.at, message);
            None
        }
    };
    optional(reader, fields, key, read).unwrap_or_default()
}

/// A time within a range.
pub(super) fn span(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    key: &'static str,
    range: RangeInclusive<Span>,
) -> Option<Span> {
    optional_text(reader, fields, key, |text| within(Span::parse(&text)?, &range))
}

/// A size within a range.
pub(super) fn bytes(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    key: &'static str,
    range: RangeInclusive<Bytes>,
) -> Option<Bytes> {
    optional_text(reader, fields, key, |text| within(Bytes::parse(&text)?, &range))
}

pub(super) fn within<T: PartialOrd + fmt::Display>(
    value: T,
    range: &RangeInclusive<T>,
) -> Result<T, String> {
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(format!("must be from {} to {}, not {value}", range.start(), range.end()))
    }
}

/// A list of words; a single text is refused, because splitting it would be a guess.
pub(super) fn words(reader: &mut Reader, node: &Node, path: &str) -> Vec<String> {
    if let Value::Scalar { text, .. } = &node.value {
        let split: Vec<_> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
        let hint = format!("must be a list of words, for example [{}]", split.join(", "));
        reader.report(path, node.at, hint);
        return Vec::new();
    }
    reader.texts(node, path)
}

/// One text or a list of them, each of which must parse, none twice.
pub(super) fn one_or_many<T: PartialEq, E: fmt::Display>(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    key: &'static str,
    parse: impl Fn(String) -> Result<T, E>,
) -> Vec<T> {
    let Some((path, node)) = fields.take(key) else { return Vec::new() };
    let items = match &node.value {
        Value::Scalar { .. } => vec![(path, node)],
        Value::List(_) | Value::Map(_) => reader.list(node, &path),
    };
    let mut values = Vec::new();
    for (path, item) in items {
        if let Some(value) = parsed(reader, item, &path, &parse) {
            if values.contains(&value) {
                reader.report(&path, item.at, "stands here a second time");
            } else {
                values.push(value);
            }
        }
    }
    values
}

/// A map of texts, or a list of `NAME=value` with `by` between the two.
pub(super) fn pairs(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    by: char,
) -> BTreeMap<String, String> {
    if !matches!(node.value, Value::List(_)) {
        return reader.text_map(node, path);
    }
    let mut pairs = BTreeMap::new();
    for (path, item) in reader.list(node, path) {
        let Some(text) = reader.text(item, &path, false) else { continue };
        match text.split_once(by) {
            Some((name, value)) => {
                if pairs.insert(name.to_owned(), value.to_owned()).is_some() {
                    reader.report(&path, item.at, format!("sets {name} a second time"));
                }
            }
            None => reader.report(&path, item.at, format!("must read NAME{by}value")),
        }
    }
    pairs
}
