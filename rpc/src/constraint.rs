//! What must hold of a node: `label.region == "eu" && arch == "amd64"`.
//!
//! ```text
//! text ──parse──> Constraint (text and tree) ──eval / failing, with a node's attributes──> verdict
//!
//! any      = all { "||" all }
//! all      = one { "&&" one }
//! one      = "!" one | "(" any ")" | attribute [ op literal | "in" "[" literal {"," literal} "]" ]
//! op       = "==" | "!=" | "<" | "<=" | ">" | ">="
//! ```
//!
//! A label that a node does not carry is unequal to everything: `==`, `in` and the orders fail,
//! `!=` holds. A label alone asks whether the node carries it.
//!
//! Invariant: a tree nests at most [`DEPTH_MAX`] deep, so that walking it needs no further bound.

mod eval;
mod parse;
mod show;

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of a constraint's text, at most.
pub const TEXT_MAX: usize = 2000;
/// How deep parentheses and negations nest, at most.
pub const DEPTH_MAX: usize = 32;

/// A condition on a node, as it was written and as it was understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Constraint {
    text: String,
    tree: Expr,
}

/// What a constraint can ask of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    /// Written `label.NAME` or `label["odd name"]`.
    Label(String),
    /// Docker's word for it, such as `amd64`.
    Arch,
    /// A version such as `6.1.0-21-amd64`.
    Kernel,
    /// A version such as `27.1.1`.
    Docker,
    Name,
    Id,
    /// A number.
    Cpus,
    /// In bytes.
    Memory,
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of labels, names, ids, the architecture and versions.
    Text(String),
    /// Of CPUs, and of memory in bytes.
    Number(u64),
}

/// An expression, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expr {
    /// At least two, none of which is `Any`.
    Any(Vec<Expr>),
    /// At least two, none of which is `All`.
    All(Vec<Expr>),
    Not(Box<Expr>),
    /// Whether a node carries a label.
    Has(Attribute),
    Compare(Attribute, Op, Literal),
    /// At least one.
    In(Attribute, Vec<Literal>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What an attribute is compared with, as the attribute's kind reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Literal {
    /// Without quotes and escapes.
    text: String,
    quoted: bool,
    /// What `text` means where numbers are compared: CPUs, bytes, or a label's value.
    number: Option<Number>,
}

/// A number in thousandths, so that `1.5` is one.
type Number = u128;

impl Constraint {
    /// Reads the expression, or says what is wrong and in which column, counted from 1.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { tree: parse::expression(text)?, text: text.to_owned() })
    }

    /// Whether a node meets it, of which `lookup` knows the attributes.
    pub fn eval(&self, lookup: &dyn Fn(&Attribute) -> Option<Value>) -> bool {
        eval::holds(&self.tree, lookup)
    }

    /// What a node fails of it, a sentence for each part that `&&` joins, such as
    /// `label.region == "eu" fails (it is "us")`. Empty exactly when `eval` is true.
    pub fn failing(&self, lookup: &dyn Fn(&Attribute) -> Option<Value>) -> Vec<String> {
        let parts = match &self.tree {
            Expr::All(parts) => parts.as_slice(),
            one @ (Expr::Any(_)
            | Expr::Not(_)
            | Expr::Has(_)
            | Expr::Compare(..)
            | Expr::In(..)) => std::slice::from_ref(one),
        };
        parts
            .iter()
            .filter(|part| !eval::holds(part, lookup))
            .map(|part| format!("{part} fails ({})", show::found(part, lookup)))
            .collect()
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl TryFrom<String> for Constraint {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Constraint> for String {
    fn from(constraint: Constraint) -> Self {
        constraint.text
    }
}

#[cfg(test)]
mod tests;
