//! TOML to a tree with positions.

use toml_edit::{Document, Item, TableLike, Value as TomlValue};

use super::problem::{Position, Problem};
use super::tree::{DEPTH_MAX, Entry, Kind, Node, Value, syntax};

/// Reads one TOML document.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let document = Document::parse(text).map_err(|error| {
        let at = error.span().map(|span| Position::of_offset(text, span.start));
        syntax(at, error.message().to_owned())
    })?;
    Reader { text }.table(document.as_table(), Position::new(1, 1), 0)
}

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn table(&self, table: &dyn TableLike, at: Position, depth: usize) -> Result<Node, Problem> {
        let mut entries = Vec::new();
        for (key, item) in table.iter() {
            let key_at = table
                .key(key)
                .and_then(toml_edit::Key::span)
                .map_or(at, |span| Position::of_offset(self.text, span.start));
            let node = self.item(item, key_at, depth + 1)?;
            entries.push(Entry { key: key.to_owned(), at: key_at, node });
        }
        Ok(Node { at, value: Value::Map(entries) })
    }

    fn item(&self, item: &Item, fallback: Position, depth: usize) -> Result<Node, Problem> {
        let at = self.at(item.span(), fallback);
        if depth > DEPTH_MAX {
            return Err(syntax(Some(at), format!("values nest more than {DEPTH_MAX} deep")));
        }
        match item {
            Item::None => Ok(scalar(at, String::new(), Kind::Null)),
            Item::Value(value) => self.value(value, at, depth),
            Item::Table(table) => self.table(table, at, depth),
            Item::ArrayOfTables(tables) => {
                let items = tables
                    .iter()
                    .map(|table| self.table(table, self.at(table.span(), at), depth + 1))
                    .collect::<Result<_, _>>()?;
                Ok(Node { at, value: Value::List(items) })
            }
        }
    }

    fn value(&self, value: &TomlValue, fallback: Position, depth: usize) -> Result<Node, Problem> {
        let at = self.at(value.span(), fallback);
        if depth > DEPTH_MAX {
            return Err(syntax(Some(at), format!("values nest more than {DEPTH_MAX} deep")));
        }
        Ok(match value {
            TomlValue::String(text) => scalar(at, text.value().clone(), Kind::Text),
            TomlValue::Integer(number) => scalar(at, number.value().to_string(), Kind::Number),
            TomlValue::Float(number) => scalar(at, number.value().to_string(), Kind::Number),
            TomlValue::Boolean(flag) => scalar(at, flag.value().to_string(), Kind::Bool),
            TomlValue::Datetime(when) => scalar(at, when.value().to_string(), Kind::Text),
            TomlValue::Array(array) => {
                let items = array
                    .iter()
                    .map(|item| self.value(item, at, depth + 1))
                    .collect::<Result<_, _>>()?;
                Node { at, value: Value::List(items) }
            }
            TomlValue::InlineTable(table) => self.table(table, at, depth)?,
        })
    }

    fn at(&self, span: Option<std::ops::Range<usize>>, fallback: Position) -> Position {
        span.map_or(fallback, |span| Position::of_offset(self.text, span.start))
    }
}

fn scalar(at: Position, text: String, kind: Kind) -> Node {
    Node { at, value: Value::Scalar { text, kind } }
}
