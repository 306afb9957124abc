//! Takes typed fields out of a tree and gathers what is wrong on the way.
//!
//! Invariant: a reader that answers `None` has said why, or the key was absent or null.

use std::collections::BTreeMap;

use super::problem::{Position, Problem};
use super::tree::{Entry, Kind, Node, Value};

/// Gathers problems while a tree is read.
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
    /// Every key that a map could have held, by its path, for the test that holds the docs to it.
    #[cfg(test)]
    pub(super) known: std::collections::BTreeSet<String>,
}

impl Reader {
    /// Goes on from what is known to be wrong already.
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self {
            problems,
            #[cfg(test)]
            known: std::collections::BTreeSet::new(),
        }
    }

    pub(super) fn report(&mut self, field: &str, at: Position, message: impl Into<String>) {
        self.problems.push(Problem {
            field: field.to_owned(),
            position: Some(at),
            message: message.into(),
        });
    }

    /// The fields of a map, by the path that leads to it.
    pub(super) fn map<'t>(&mut self, node: &'t Node, path: &str) -> Option<Fields<'t>> {
        match &node.value {
            Value::Map(entries) => {
                Some(Fields { path: path.to_owned(), at: node.at, entries, known: Vec::new() })
            }
            other @ (Value::Scalar { .. } | Value::List(_)) => {
                self.report(path, node.at, format!("must be a map, not {}", other.describe()));
                None
            }
        }
    }

    /// A text; numbers and truths are taken as they are written when `lenient`.
    pub(super) fn text(&mut self, node: &Node, path: &str, lenient: bool) -> Option<String> {
        match &node.value {
            Value::Scalar { text, kind: Kind::Text } => Some(text.clone()),
            Value::Scalar { text, kind: Kind::Number | Kind::Bool } if lenient => {
                Some(text.clone())
            }
            other @ (Value::Scalar { .. } | Value::List(_) | Value::Map(_)) => {
                self.report(path, node.at, format!("must be a text, not {}", other.describe()));
                None
            }
        }
    }

    /// A whole number within a range.
    pub(super) fn number(
        &mut self,
        node: &Node,
        path: &str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let (low, high) = (range.start(), range.end());
        let wanted = format!("must be a whole number from {low} to {high}");
        let Value::Scalar { text, kind: Kind::Number } = &node.value else {
            self.report(path, node.at, format!("{wanted}, not {}", node.value.describe()));
            return None;
        };
        match text.parse::<u32>() {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                self.report(path, node.at, format!("{wanted}, not {text}"));
                None
            }
        }
    }

    /// The items of a list, each with its path.
    pub(super) fn list<'t>(&mut self, node: &'t Node, path: &str) -> Vec<(String, &'t Node)> {
        match &node.value {
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| (format!("{path}[{index}]"), item))
                .collect(),
            other @ (Value::Scalar { .. } | Value::Map(_)) => {
                self.report(path, node.at, format!("must be a list, not {}", other.describe()));
                Vec::new()
            }
        }
    }

    pub(super) fn texts(&mut self, node: &Node, path: &str) -> Vec<String> {
        self.list(node, path)
            .into_iter()
            .filter_map(|(path, item)| self.text(item, &path, true))
            .collect()
    }

    /// A map of texts, such as `env`.
    pub(super) fn text_map(&mut self, node: &Node, path: &str) -> BTreeMap<String, String> {
        let Some(fields) = self.map(node, path) else { return BTreeMap::new() };
        let mut texts = BTreeMap::new();
        for entry in fields.entries {
            let path = format!("{path}.{}", entry.key);
            if entry.node.is_null() {
                self.report(&path, entry.at, "has no value; write \"\" for an empty text");
            } else if let Some(text) = self.text(&entry.node, &path, true) {
                texts.insert(entry.key.clone(), text);
            }
        }
        texts
    }

    /// Reports the keys that nobody asked for, each with the nearest known one.
    pub(super) fn finish(&mut self, fields: &Fields<'_>) {
        #[cfg(test)]
        self.known.extend(fields.known.iter().map(|key| fields.path_of(key)));
        for entry in fields.entries {
            if fields.known.contains(&entry.key.as_str()) || entry.key.starts_with("x-") {
                continue;
            }
            let hint = nearest(&entry.key, &fields.known)
                .map_or_else(String::new, |known| format!("; did you mean \"{known}\"?"));
            let path = fields.path_of(&entry.key);
            self.report(&path, entry.at, format!("is an unknown key{hint}"));
        }
    }
}

/// The entries of one map, and which keys were asked for.
pub(super) struct Fields<'t> {
    path: String,
    pub(super) at: Position,
    entries: &'t [Entry],
    known: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    /// The value of a key; null counts as absent.
    pub(super) fn take(&mut self, key: &'static str) -> Option<(String, &'t Node)> {
        self.known.push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        if entry.node.is_null() { None } else { Some((self.path_of(key), &entry.node)) }
    }

    /// Like `take`, and reports when the key is absent.
    pub(super) fn require(
        &mut self,
        reader: &mut Reader,
        key: &'static str,
        why: &str,
    ) -> Option<(String, &'t Node)> {
        let found = self.take(key);
        if found.is_none() {
            reader.report(&self.path_of(key), self.at, format!("is missing: {why}"));
        }
        found
    }

    /// What stands here, where the keys are names that the user chose.
    pub(super) fn entries(&self) -> &'t [Entry] {
        self.entries
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// The known key that a person most likely meant.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let folded = key.to_ascii_lowercase().replace('-', "_");
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&folded, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(folded.len()) / 2)
        .min()
        .map(|(_, candidate)| candidate)
}
