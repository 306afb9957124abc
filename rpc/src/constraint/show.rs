//! Expressions as people read them, and what a node says instead.

use std::collections::BTreeSet;
use std::fmt;

use super::{Attribute, Expr, Literal, Op, Value};

/// Characters that a label's name may hold where it is written without quotes.
pub(super) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')
}

/// What the node says of everything that `expr` asks: `it is "us"`, `it has no label region`.
pub(super) fn found(expr: &Expr, lookup: &dyn Fn(&Attribute) -> Option<Value>) -> String {
    let mut asked = BTreeSet::new();
    attributes(expr, &mut asked);
    let alone = asked.len() == 1;
    let said = asked.into_iter().map(|attribute| match (lookup(attribute), attribute) {
        (None, Attribute::Label(name)) => format!("it has no label {name}"),
        (None, other) => format!("it does not say its {other}"),
        (Some(value), _) if alone => format!("it is {}", Shown(attribute, &value)),
        (Some(value), _) => format!("{attribute} is {}", Shown(attribute, &value)),
    });
    said.collect::<Vec<_>>().join(", ")
}

fn attributes<'e>(expr: &'e Expr, into: &mut BTreeSet<&'e Attribute>) {
    match expr {
        Expr::Any(parts) | Expr::All(parts) => {
            for part in parts {
                attributes(part, into);
            }
        }
        Expr::Not(inner) => attributes(inner, into),
        Expr::Has(attribute) | Expr::Compare(attribute, ..) | Expr::In(attribute, _) => {
            into.insert(attribute);
        }
    }
}

/// A node's value as the literals of its attribute are written.
struct Shown<'a>(&'a Attribute, &'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Attribute::Kernel | Attribute::Docker, Value::Text(text)) => f.write_str(text),
            (_, Value::Text(text)) => write!(f, "{}", Quoted(text)),
            (Attribute::Memory, Value::Number(bytes)) => {
                // Rounded down: a node must not look as if it met what it fails.
                let (unit, factor) = [("g", 1_u64 << 30), ("m", 1 << 20), ("k", 1 << 10)]
                    .into_iter()
                    .find(|(_, factor)| bytes >= factor)
                    .unwrap_or(("", 1));
                let (whole, tenths) = (bytes / factor, bytes % factor * 10 / factor);
                write!(f, "{whole}")?;
                if tenths > 0 {
                    write!(f, ".{tenths}")?;
                }
                f.write_str(unit)
            }
            (_, Value::Number(number)) => write!(f, "{number}"),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(parts) => joined(f, parts, " || "),
            Self::All(parts) => joined(f, parts, " && "),
            Self::Not(inner) => match &**inner {
                bare @ (Self::Has(_) | Self::Not(_)) => write!(f, "!{bare}"),
                other @ (Self::Any(_) | Self::All(_) | Self::Compare(..) | Self::In(..)) => {
                    write!(f, "!({other})")
                }
            },
            Self::Has(attribute) => write!(f, "{attribute}"),
            Self::Compare(attribute, op, literal) => {
                write!(f, "{attribute} {} {literal}", op.as_str())
            }
            Self::In(attribute, literals) => {
                write!(f, "{attribute} in [")?;
                for (index, literal) in literals.iter().enumerate() {
                    write!(f, "{}{literal}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Parts that are joined themselves stand in parentheses.
fn joined(f: &mut fmt::Formatter<'_>, parts: &[Expr], by: &str) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(by)?;
        }
        if matches!(part, Expr::Any(_) | Expr::All(_)) {
            write!(f, "({part})")?;
        } else {
            write!(f, "{part}")?;
        }
    }
    Ok(())
}

impl Op {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(name) if !name.is_empty() && name.chars().all(is_plain) => {
                write!(f, "label.{name}")
            }
            Self::Label(name) => write!(f, "label[{}]", Quoted(name)),
            Self::Arch => f.pad("arch"),
            Self::Kernel => f.pad("kernel"),
            Self::Docker => f.pad("docker"),
            Self::Name => f.pad("name"),
            Self::Id => f.pad("id"),
            Self::Cpus => f.pad("cpus"),
            Self::Memory => f.pad("memory"),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.quoted { Quoted(&self.text).fmt(f) } else { f.write_str(&self.text) }
    }
}

/// A text in double quotes; quotes and backslashes have a backslash before them.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
