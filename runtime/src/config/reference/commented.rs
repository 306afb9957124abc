//! The file that packages install: every key, each commented out under what it does.

use std::fmt::Write as _;

use toml::Value;

use super::{Key, Reference, Table};

const WIDTH: usize = 96;

/// A key tried on its own: the file with it is read, and where it says the default, it changes
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trial {
    /// Its dotted name.
    pub(super) key: String,
    /// A file with the key, and as much else as its table needs.
    pub(super) with: String,
    /// The same file without it, where the key's example is its default.
    pub(super) without: Option<String>,
}

impl Reference {
    /// The whole file, in which nothing is said.
    pub(super) fn commented(&self) -> String {
        let (program, file) = (self.program, self.file);
        let check = program.split(' ').next().unwrap_or(program);
        let mut out = format!(
            "# What `{program}` is told: each key with its default, or with an example where it has none.\n\
             # Take the `#` away from what is to be different; flags win over this file.\n\
             # `{check} check-config {file}` tells what is wrong with it.\n"
        );
        for table in &self.tables {
            table.write_commented(&mut out);
        }
        out
    }

    /// Each key on its own.
    pub(super) fn trials(&self) -> Vec<Trial> {
        let whole = |leave_out: Option<(&str, &str)>| -> toml::Table { self.examples(leave_out) };
        let mut trials = Vec::new();
        for table in &self.tables {
            for key in &table.keys {
                let top = table.name.split('.').next().unwrap_or_default();
                let only = |file: toml::Table, name: &str| -> String {
                    file.into_iter()
                        .filter(|(key, _)| key == name)
                        .collect::<toml::Table>()
                        .to_string()
                };
                let is_top = top.is_empty();
                let with = only(whole(None), if is_top { &key.name } else { top });
                let left = || only(whole(Some((&table.name, &key.name))), top);
                let without = if is_top { String::new() } else { left() };
                trials.push(Trial {
                    key: table.full(key),
                    with,
                    without: key.example_is_default().then_some(without),
                });
            }
        }
        trials
    }

    /// The examples as one file, but for one key.
    fn examples(&self, leave_out: Option<(&str, &str)>) -> toml::Table {
        let mut file = toml::Table::new();
        for table in &self.tables {
            let keys = table.keys.iter();
            let keys =
                keys.filter(|key| leave_out != Some((table.name.as_str(), key.name.as_str())));
            let values: toml::Table =
                keys.map(|key| (key.name.clone(), key.example.clone())).collect();
            if table.name.is_empty() {
                file.extend(values);
                continue;
            }
            let mut at = &mut file;
            let mut parts: Vec<&str> = table.name.split('.').collect();
            let last = parts.pop().unwrap_or_default();
            for part in parts {
                let inner = at.entry(part).or_insert_with(|| Value::Table(toml::Table::new()));
                let Value::Table(inner) = inner else { return file };
                at = inner;
            }
            let values = Value::Table(values);
            let value = if table.is_list { Value::Array(vec![values]) } else { values };
            at.insert(last.to_owned(), value);
        }
        file
    }
}

impl Table {
    pub(super) fn full(&self, key: &Key) -> String {
        if self.name.is_empty() { key.name.clone() } else { format!("{}.{}", self.name, key.name) }
    }

    fn write_commented(&self, out: &mut String) {
        if !self.name.is_empty() {
            out.push('\n');
            comment(out, &self.about);
            let _ = if self.is_list {
                writeln!(out, "#[[{}]]", self.name)
            } else {
                writeln!(out, "#[{}]", self.name)
            };
        }
        // A table that is written as one has to come after what is none.
        let (tables, plain): (Vec<&Key>, Vec<&Key>) =
            self.keys.iter().partition(|key| key.example.is_table());
        for key in plain.into_iter().chain(tables) {
            out.push('\n');
            comment(out, &key.help);
            if let Some(default) = key.default.as_deref().filter(|_| !key.example_is_default()) {
                comment(out, &format!("Default: {default}"));
            }
            if let Some(entries) = key.example.as_table() {
                let _ = writeln!(out, "#[{}]", self.full(key));
                for (name, value) in entries {
                    let _ = writeln!(out, "#{name} = {value}");
                }
            } else {
                let _ = writeln!(out, "#{} = {}", key.name, key.example);
            }
        }
    }
}

impl Key {
    /// Whether the default is a value, not a sentence about where it comes from.
    pub(super) fn names_a_value(&self) -> bool {
        self.default.as_deref().is_some_and(|default| !default.contains(' ') && default != "none")
    }

    /// Whether the example is what holds without the key.
    pub(super) fn example_is_default(&self) -> bool {
        let bare = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let list = self.example.as_array().map(|values| values.iter().map(bare));
        let shown =
            list.map_or_else(|| bare(&self.example), |values| values.collect::<Vec<_>>().join(","));
        self.default.as_deref() == Some(&shown)
    }
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
