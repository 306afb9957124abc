//! What people and scripts see: data on stdout, the rest on stderr, colour only where wanted.

pub mod table;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// How data is printed: the `-o` of every command that lists something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Columns for people.
    #[default]
    Table,
    /// All columns.
    Wide,
    /// JSON, complete and stable.
    Json,
    /// The same as YAML.
    Yaml,
    /// Names only, one a line.
    Name,
}

/// A colour with a meaning; everything reads without it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// All is well.
    Green,
    /// Look here soon.
    Yellow,
    /// Broken, or dangerous.
    Red,
    /// Of less weight.
    Dim,
    /// A heading.
    Bold,
}

/// Colours `text` for stdout, if stdout is a terminal that wants colour.
pub fn colour(colour: Colour, text: &str) -> String {
    paint(colour, text, colour_wanted(io::stdout().is_terminal()))
}

/// Colours `text` for stderr, if stderr is a terminal that wants colour.
pub fn colour_stderr(colour: Colour, text: &str) -> String {
    paint(colour, text, colour_wanted(io::stderr().is_terminal()))
}

/// Whether colour is wanted on a stream: a terminal, no `NO_COLOR`, no dumb terminal.
pub fn colour_wanted(is_terminal: bool) -> bool {
    is_terminal
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes to stdout; a reader that went away (`| head`) is no error.
pub fn print(text: &str) -> io::Result<()> {
    quiet_on_closed_pipe(io::stdout().lock().write_all(text.as_bytes()))
}

/// Prints names on stdout, one a line; a line feed in a stranger's name makes no second line.
pub fn print_names<N: std::fmt::Display>(names: impl IntoIterator<Item = N>) -> io::Result<()> {
    let lines = names.into_iter().map(|name| format!("{}\n", printable(&name.to_string())));
    print(&lines.collect::<Vec<_>>().concat())
}

/// Writes a line to stderr; there is nobody to tell when that fails.
pub fn eprintln(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints `value` as indented JSON on stdout.
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

/// Prints `value` as YAML on stdout.
pub fn print_yaml(value: &impl Serialize) -> io::Result<()> {
    print(&serde_yaml_ng::to_string(value).map_err(io::Error::other)?)
}

/// Prints rows in the notation that was asked for: the whole values as JSON or YAML, their names,
/// or the columns that `table` makes of them (`true`: the wide ones too).
pub fn print_rows<T: Serialize>(
    output: Output,
    rows: &[T],
    name: impl Fn(&T) -> String,
    table: impl Fn(&[T], bool) -> table::Table,
) -> io::Result<()> {
    match output {
        Output::Json => print_json(&rows),
        Output::Yaml => print_yaml(&rows),
        Output::Name => print_names(rows.iter().map(name)),
        Output::Table | Output::Wide => print(&table(rows, output == Output::Wide).to_string()),
    }
}

/// Prints one value in the notation that was asked for: the whole as JSON or YAML, its name, or
/// the text that `text` makes of it (`true`: the wide one).
pub fn print_value<T: Serialize>(
    output: Output,
    value: &T,
    name: impl Fn(&T) -> String,
    text: impl Fn(&T, bool) -> String,
) -> io::Result<()> {
    match output {
        Output::Json => print_json(value),
        Output::Yaml => print_yaml(value),
        Output::Name => print_names([name(value)]),
        Output::Table | Output::Wide => print(&text(value, output == Output::Wide)),
    }
}

/// `text` with control characters made visible, so that a stranger's string cannot move the cursor.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

fn paint(colour: Colour, text: &str, wanted: bool) -> String {
    if !wanted || text.is_empty() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Green => "32",
        Colour::Yellow => "33",
        Colour::Red => "31",
        Colour::Dim => "2",
        Colour::Bold => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

fn quiet_on_closed_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(printable("grün"), "grün");
    }

    #[test]
    fn colour_is_optional() {
        assert_eq!(paint(Colour::Red, "lost", false), "lost");
        assert_eq!(paint(Colour::Red, "lost", true), "\u{1b}[31mlost\u{1b}[0m");
    }
}
