//! YAML to a tree with positions.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::problem::{Position, Problem};
use super::tree::{DEPTH_MAX, Entry, Kind, NODES_MAX, Node, Value, syntax};

/// Reads one YAML document. Keys that stand twice are told beside it: they hide nothing else.
pub(super) fn parse(text: &str) -> Result<(Node, Vec<Problem>), Problem> {
    let mut builder = Builder::default();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event
            .map_err(|error| syntax(Some(position(error.marker())), error.info().to_owned()))?;
        let at = position(&span.start);
        if matches!(event, Event::DocumentStart(_)) && root.is_some() {
            return Err(syntax(
                Some(at),
                "a second document begins here; one file holds one deployment",
            ));
        }
        if let Some(node) = builder.take(event, at)? {
            root = Some(node);
        }
    }
    let root = root.ok_or_else(|| syntax(None, "the manifest is empty"))?;
    Ok((root, builder.twice))
}

/// A list or map whose end has not come yet.
enum Open {
    List { at: Position, anchor: usize, items: Vec<Node> },
    Map { at: Position, anchor: usize, entries: Vec<Entry>, key: Option<(String, Position)> },
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
    twice: Vec<Problem>,
}

impl Builder {
    /// Takes one event; answers with the root when it is complete.
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<Option<Node>, Problem> {
        match event {
            Event::Scalar(text, style, anchor, _tag) => {
                let kind = if matches!(style, ScalarStyle::Plain) {
                    kind_of_plain(&text)
                } else {
                    Kind::Text
                };
                let node = Node { at, value: Value::Scalar { text: text.into_owned(), kind } };
                self.complete(node, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                self.open(Open::List { at, anchor, items: Vec::new() })
            }
            Event::MappingStart(anchor, _) => {
                self.open(Open::Map { at, anchor, entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Open::List { at, anchor, items }) => {
                    self.complete(Node { at, value: Value::List(items) }, anchor)
                }
                Some(Open::Map { at, anchor, entries, .. }) => {
                    self.complete(Node { at, value: Value::Map(entries) }, anchor)
                }
                None => Ok(None),
            },
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err(syntax(Some(at), "an alias names an anchor that is not complete"));
                };
                self.count(size, at)?;
                self.complete(Node { at, ..node }, 0)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(None),
        }
    }

    fn open(&mut self, open: Open) -> Result<Option<Node>, Problem> {
        let (Open::List { at, .. } | Open::Map { at, .. }) = &open;
        if self.stack.len() >= DEPTH_MAX {
            return Err(syntax(Some(*at), format!("values nest more than {DEPTH_MAX} deep")));
        }
        self.stack.push(open);
        Ok(None)
    }

    fn complete(&mut self, node: Node, anchor: usize) -> Result<Option<Node>, Problem> {
        self.count(1, node.at)?;
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), size(&node)));
        }
        match self.stack.last_mut() {
            None => return Ok(Some(node)),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, .. }) => match key.take() {
                Some((key, at)) => {
                    if entries.iter().any(|entry| entry.key == key) {
                        let message = format!("key \"{key}\" stands here twice");
                        self.twice.push(syntax(Some(at), message));
                    } else {
                        entries.push(Entry { key, at, node });
                    }
                }
                None => match node.value {
                    Value::Scalar { text, .. } => *key = Some((text, node.at)),
                    Value::List(_) | Value::Map(_) => {
                        return Err(syntax(Some(node.at), "a key must be a text"));
                    }
                },
            },
        }
        Ok(None)
    }

    fn count(&mut self, nodes: usize, at: Position) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            return Err(syntax(Some(at), format!("the manifest holds over {NODES_MAX} values")));
        }
        Ok(())
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Scalar { .. } => 0,
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|entry| size(&entry.node)).sum(),
    }
}

/// The core schema of YAML 1.2, so that `no` and `on` stay texts.
fn kind_of_plain(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Kind::Bool,
        _ if is_number(text) => Kind::Number,
        _ => Kind::Text,
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && (text.parse::<f64>().is_ok()
            || digits.strip_prefix("0x").is_some_and(|hex| u64::from_str_radix(hex, 16).is_ok())
            || digits.strip_prefix("0o").is_some_and(|oct| u64::from_str_radix(oct, 8).is_ok()))
}

fn position(marker: &Marker) -> Position {
    Position::new(marker.line().max(1), marker.col() + 1)
}
