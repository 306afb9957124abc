//! What a configuration file may hold, told from the types that read it.
//!
//! ```text
//!   doc comments (clap) ──┐
//!   fields (serde)     ───┼──> Reference ──> packaging/etc/NAME.toml, docs/configuration.md
//!   examples (TOML)    ───┘
//! ```
//!
//! Invariant: a key without a doc comment, or without an example, is an error, and so is an example
//! of a key that is none. Programs use nothing of this; their tests hold the files to it.

mod commented;
mod fields;
mod page;

use std::fmt::Debug;
use std::path::Path;

use clap::{Arg, Args, Command};
use serde::de::DeserializeOwned;
use toml::Value;

const DEFAULT: &str = "[default: ";
/// What is said of flags alone: a file has lists.
const OF_FLAGS: [&str; 3] =
    ["; may be given more than once", "; may be given again", "; repeatable"];
/// With it, a test writes the files that it holds.
const UPDATE: &str = "KNIT_UPDATE_DOCS";

/// What is wrong with a reference.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// A key has no doc comment.
    #[error("{0} has no doc comment")]
    Undocumented(String),
    /// A key has no example.
    #[error("{0} has no example")]
    NoExample(String),
    /// There is an example of something that is no key.
    #[error("there is an example of {0}, which is no key")]
    NoKey(String),
    /// The default that the doc comment names is not the one of the example.
    #[error("the doc comment of {0} names another default than its example")]
    AnotherDefault(String),
    /// The examples are no TOML.
    #[error("the examples are no TOML: {0}")]
    Examples(#[from] toml::de::Error),
}

/// A configuration file.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The program that reads it, as it is typed: `meshctl join`.
    pub program: &'static str,
    /// Where packages put it.
    pub file: &'static str,
    tables: Vec<Table>,
}

/// A table of it; the whole file is the one without a name.
#[derive(Debug, Clone)]
pub struct Table {
    name: String,
    about: String,
    is_list: bool,
    keys: Vec<Key>,
}

#[derive(Debug, Clone)]
struct Key {
    name: String,
    help: String,
    /// The words of its doc comment, or clap's own default.
    default: Option<String>,
    is_required: bool,
    flag: Option<String>,
    variable: Option<String>,
    /// What the flag calls its value.
    value_name: Option<String>,
    choices: Vec<String>,
    example: Value,
}

/// A table before its examples are known.
#[derive(Debug)]
pub struct Shape {
    name: &'static str,
    is_list: bool,
    names: Vec<String>,
    command: Command,
}

impl Shape {
    /// The table `name` as `T` reads it: its keys are `T`'s fields, `T`'s doc comments their help.
    pub fn of<T: Args + DeserializeOwned>(name: &'static str) -> Self {
        let names = fields::of::<T>().iter().map(|name| (*name).to_owned()).collect();
        Self { name, is_list: false, names, command: T::augment_args(Command::new("table")) }
    }

    /// The same, where the file may have several of it.
    #[must_use]
    pub fn in_a_list(self) -> Self {
        Self { is_list: true, ..self }
    }

    /// The file in which each flag of `command` is a key, but for those that are hidden and `config`.
    pub fn of_flags(command: &Command) -> Self {
        let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
        let longs = shown.filter_map(Arg::get_long).filter(|long| *long != "config");
        let names = longs.map(|long| long.replace('-', "_")).collect();
        Self { name: "", is_list: false, names, command: command.clone() }
    }
}

impl Reference {
    /// Puts the shapes of a file, the nameless one first, and its examples together.
    pub fn new(
        program: &'static str,
        file: &'static str,
        shapes: &[Shape],
        examples: &str,
    ) -> Result<Self, ReferenceError> {
        let examples: toml::Table = examples.parse()?;
        let mut tables = Vec::new();
        for shape in shapes {
            let examples = table_at(&examples, shape.name)
                .ok_or_else(|| ReferenceError::NoExample(shape.name.to_owned()))?;
            tables.push(table(shape, examples, shapes)?);
        }
        Ok(Self { program, file, tables })
    }

    /// Compares what is shown with what the program makes of a file's text: each key is read alone,
    /// and what is shown as a default is one. Reading is `load`'s to fail at.
    pub fn hold_values<T: Debug + PartialEq>(
        &self,
        load: impl Fn(&str) -> T,
    ) -> Result<(), String> {
        let (shown, nothing) = (load(&self.commented()), load(""));
        if shown != nothing {
            return Err(format!(
                "the file in which nothing is said says {shown:?}, not {nothing:?}"
            ));
        }
        for trial in self.trials() {
            let with = load(&trial.with);
            let without = trial.without.map(|text| load(&text));
            if let Some(without) = without.filter(|without| *without != with) {
                return Err(format!("{} is not the default: {with:?}, not {without:?}", trial.key));
            }
        }
        Ok(())
    }

    /// Compares the file that packages install, and the program's part of `docs/configuration.md`,
    /// with what they should be; says what to do when they are not.
    pub fn hold(&self, repository: &Path) -> Result<(), String> {
        let name = self.file.rsplit('/').next().unwrap_or(self.file);
        let file = repository.join("packaging/etc").join(name);
        hold(&file, |_| Some(self.commented()))?;
        hold(&repository.join("docs/configuration.md"), |page| self.put_into(page))
    }
}

/// The table at a dotted name; of a list of tables, the first.
fn table_at<'a>(examples: &'a toml::Table, name: &str) -> Option<&'a toml::Table> {
    name.split('.').filter(|part| !part.is_empty()).try_fold(examples, |table, part| {
        let value = table.get(part)?;
        value.as_array().and_then(|list| list.first()).unwrap_or(value).as_table()
    })
}

fn table(shape: &Shape, examples: &toml::Table, shapes: &[Shape]) -> Result<Table, ReferenceError> {
    let full = |key: &str| [shape.name, key].join(".").trim_start_matches('.').to_owned();
    if let Some(stranger) = examples.keys().find(|key| !shape.names.contains(key)) {
        return Err(ReferenceError::NoKey(full(stranger)));
    }
    let mut keys = Vec::new();
    for name in &shape.names {
        let full = full(name);
        let example = examples.get(name).ok_or_else(|| ReferenceError::NoExample(full.clone()))?;
        if shapes.iter().any(|shape| shape.name == full) {
            continue;
        }
        let long = name.replace('_', "-");
        let arguments = || shape.command.get_arguments();
        let arg = arguments()
            .find(|arg| arg.get_id() == name)
            .or_else(|| arguments().find(|arg| arg.get_long() == Some(&long)));
        let key = arg.and_then(|arg| key(name, arg, example));
        let key = key.ok_or_else(|| ReferenceError::Undocumented(full.clone()))?;
        if key.names_a_value() && !key.example_is_default() {
            return Err(ReferenceError::AnotherDefault(full));
        }
        keys.push(key);
    }
    let about = shape.command.get_long_about().or_else(|| shape.command.get_about());
    let about = about.map(|about| sentence(one_line(&about.to_string()))).unwrap_or_default();
    if about.is_empty() && !shape.name.is_empty() {
        return Err(ReferenceError::Undocumented(shape.name.to_owned()));
    }
    Ok(Table { name: shape.name.to_owned(), about, is_list: shape.is_list, keys })
}

fn key(name: &str, arg: &Arg, example: &Value) -> Option<Key> {
    let help = one_line(&arg.get_long_help().or_else(|| arg.get_help())?.to_string());
    let (help, told) = match help.split_once(DEFAULT) {
        Some((help, default)) => {
            (help.trim().to_owned(), Some(plain(default.trim_end_matches(']'))))
        }
        None => (help.clone(), None),
    };
    let help = OF_FLAGS.iter().fold(help, |help, words| help.replace(words, ""));
    let own: Vec<_> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let is_flag = !arg.get_action().takes_values();
    let default = told.map(str::to_owned).or_else(|| (!own.is_empty()).then(|| own.join(",")));
    let visible = arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set());
    (!help.is_empty()).then(|| Key {
        name: name.to_owned(),
        help: sentence(help),
        default: if is_flag { Some("false".to_owned()) } else { default },
        is_required: arg.is_required_set(),
        flag: arg.get_long().map(|long| format!("--{long}")),
        variable: arg.get_env().map(|name| name.to_string_lossy().into_owned()),
        value_name: value_name(arg),
        choices: if is_flag {
            Vec::new()
        } else {
            visible.map(|value| value.get_name().to_owned()).collect()
        },
        example: example.clone(),
    })
}

/// What the flag calls its value, where that is more than the flag's own name.
fn value_name(arg: &Arg) -> Option<String> {
    let name = arg.get_value_names()?.first()?.to_string();
    (name != arg.get_id().as_str().to_uppercase()).then_some(name)
}

/// A value without the backquotes that keep it from being taken for more.
fn plain(default: &str) -> &str {
    let inner = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
    inner.filter(|inner| !inner.contains('`')).unwrap_or(default)
}

fn sentence(text: String) -> String {
    if text.ends_with('.') { text } else { format!("{text}.") }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn hold(path: &Path, made: impl FnOnce(&str) -> Option<String>) -> Result<(), String> {
    let shown = path.display();
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let made = made(&found).ok_or_else(|| format!("{shown} has no place for it"))?;
    if std::env::var_os(UPDATE).is_some() {
        return std::fs::write(path, made).map_err(|error| format!("{shown}: {error}"));
    }
    if found == made {
        Ok(())
    } else {
        Err(format!("{shown} is old: run this test with {UPDATE}=1"))
    }
}

#[cfg(test)]
mod tests;
