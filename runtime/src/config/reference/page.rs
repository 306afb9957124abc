//! The program's part of `docs/configuration.md`.

use std::fmt::Write as _;

use toml::Value;

use super::{Key, Reference, Table};

impl Reference {
    /// `page` with this program's part in place of what stands between its marks.
    pub(super) fn put_into(&self, page: &str) -> Option<String> {
        let begin = format!("<!-- {}: made from its types -->\n", self.program);
        let end = format!("<!-- {}: end -->\n", self.program);
        let (before, rest) = page.split_once(&begin)?;
        let (_, after) = rest.split_once(&end)?;
        Some(format!("{before}{begin}{}{end}{after}", self.markdown()))
    }

    fn markdown(&self) -> String {
        let mut out = String::new();
        for table in &self.tables {
            table.write_markdown(&mut out);
        }
        out.push('\n');
        out
    }
}

impl Table {
    fn write_markdown(&self, out: &mut String) {
        if !self.name.is_empty() {
            let (open, close) = if self.is_list { ("each `[[", "]]`") } else { ("`[", "]`") };
            let _ = writeln!(out, "\n### {open}{}{close}\n\n{}", self.name, self.about);
        }
        let has_flags = self.keys.iter().any(|key| !key.elsewhere().is_empty());
        let columns = if has_flags { 5 } else { 4 };
        let heads = ["key", "type", "default", "what it does", "flag, variable"];
        let _ = writeln!(out, "\n| {} |", heads[..columns].join(" | "));
        let _ = writeln!(out, "|{}", "---|".repeat(columns));
        for key in &self.keys {
            let cells = [
                format!("`{}`", key.name),
                key.kind(),
                key.default_cell(),
                key.help.trim_end_matches('.').to_owned(),
                key.elsewhere(),
            ];
            let cells = cells.map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(out, "| {} |", cells[..columns].join(" | "));
        }
    }
}

impl Key {
    fn kind(&self) -> String {
        if !self.choices.is_empty() {
            let choices = self.choices.iter().map(|choice| format!("`{choice}`"));
            return choices.collect::<Vec<_>>().join(", ");
        }
        match self.example.as_array().and_then(|values| values.first()) {
            Some(one) => format!("list of {}", self.one(one)),
            None => self.one(&self.example),
        }
    }

    fn one(&self, value: &Value) -> String {
        match (value, self.value_name.as_deref()) {
            (Value::Boolean(_), _) => "true or false".to_owned(),
            (Value::Integer(_) | Value::Float(_), _) => "number".to_owned(),
            (Value::Table(_), _) => "table of text".to_owned(),
            (_, Some("FILE" | "PATH" | "DIR")) => "path".to_owned(),
            (_, Some(name)) => format!("text: {name}"),
            (_, None) => "text".to_owned(),
        }
    }

    fn default_cell(&self) -> String {
        match &self.default {
            _ if self.is_required => "required".to_owned(),
            Some(default) if self.example_is_default() => format!("`{default}`"),
            Some(default) => default.clone(),
            None => String::new(),
        }
    }

    fn elsewhere(&self) -> String {
        let names = self.flag.iter().chain(&self.variable).map(|name| format!("`{name}`"));
        names.collect::<Vec<_>>().join(", ")
    }
}
