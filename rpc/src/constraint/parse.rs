//! Text to expression: a lexer and a descent whose depth is bounded.

mod lexer;

use lexer::{Lexer, Token, What};

use super::eval::{pieces, thousandths};
use super::{Attribute, DEPTH_MAX, Expr, Literal, Op, TEXT_MAX};
use crate::spec::Bytes;

const ATTRIBUTES: &str = "label.NAME, arch, kernel, docker, name, id, cpus or memory";

/// Reads a whole text.
pub(super) fn expression(text: &str) -> Result<Expr, String> {
    if text.len() > TEXT_MAX {
        return Err(format!("has {} bytes; at most {TEXT_MAX} are read", text.len()));
    }
    let tokens = Lexer::new(text).all()?;
    let mut parser = Parser { tokens: &tokens, next: 0 };
    let expr = parser.any(0)?;
    match parser.peek() {
        Token { what: What::End, .. } => Ok(expr),
        token => Err(expected("\"&&\", \"||\" or the end", token)),
    }
}

struct Parser<'t> {
    /// The last one is `End`.
    tokens: &'t [Token],
    next: usize,
}

impl<'t> Parser<'t> {
    fn any(&mut self, depth: usize) -> Result<Expr, String> {
        let parts = self.joined(&What::Or, |parser| parser.all(depth))?;
        Ok(flat(parts, Expr::Any, |part| match part {
            Expr::Any(inner) => Ok(inner),
            other @ (Expr::All(_)
            | Expr::Not(_)
            | Expr::Has(_)
            | Expr::Compare(..)
            | Expr::In(..)) => Err(other),
        }))
    }

    fn all(&mut self, depth: usize) -> Result<Expr, String> {
        let parts = self.joined(&What::And, |parser| parser.one(depth))?;
        Ok(flat(parts, Expr::All, |part| match part {
            Expr::All(inner) => Ok(inner),
            other @ (Expr::Any(_)
            | Expr::Not(_)
            | Expr::Has(_)
            | Expr::Compare(..)
            | Expr::In(..)) => Err(other),
        }))
    }

    fn joined(
        &mut self,
        by: &What,
        mut part: impl FnMut(&mut Self) -> Result<Expr, String>,
    ) -> Result<Vec<Expr>, String> {
        let mut parts = vec![part(self)?];
        while self.peek().what == *by {
            self.advance();
            parts.push(part(self)?);
        }
        Ok(parts)
    }

    fn one(&mut self, depth: usize) -> Result<Expr, String> {
        let token = self.advance();
        if depth >= DEPTH_MAX {
            return Err(format!("column {}: nests more than {DEPTH_MAX} deep", token.column));
        }
        match &token.what {
            What::Not => {
                let inner = self.one(depth + 1)?;
                // `!label.x == "y"` would read as `!(label.x) == "y"` to some and as
                // `!(label.x == "y")` to others.
                if matches!(inner, Expr::Compare(..) | Expr::In(..)) && !self.closed() {
                    return Err(format!(
                        "column {}: put what \"!\" negates in parentheses: !({inner})",
                        token.column
                    ));
                }
                Ok(Expr::Not(Box::new(inner)))
            }
            What::Open => {
                let inner = self.any(depth + 1)?;
                match self.advance() {
                    Token { what: What::Close, .. } => Ok(inner),
                    other => Err(expected("\")\"", other)),
                }
            }
            What::Word(word) => {
                let attribute = self.attribute(word, token)?;
                self.comparison(attribute, token)
            }
            What::Text(_)
            | What::Number(_)
            | What::And
            | What::Or
            | What::Close
            | What::Op(_)
            | What::OpenList
            | What::CloseList
            | What::Comma
            | What::End => Err(expected(ATTRIBUTES, token)),
        }
    }

    /// Whether what was read last ends in a parenthesis.
    fn closed(&self) -> bool {
        self.tokens[self.next - 1].what == What::Close
    }

    fn attribute(&mut self, word: &str, token: &Token) -> Result<Attribute, String> {
        if word == "label" {
            if self.peek().what != What::OpenList {
                return Err(format!(
                    "column {}: expected label.NAME or label[\"NAME\"]",
                    token.column
                ));
            }
            self.advance();
            let name = match self.advance() {
                Token { what: What::Text(name), .. } => name.clone(),
                other => return Err(expected("a label's name in quotes", other)),
            };
            return match self.advance() {
                Token { what: What::CloseList, .. } => Ok(Attribute::Label(name)),
                other => Err(expected("\"]\"", other)),
            };
        }
        match (word, word.strip_prefix("label.")) {
            (_, Some(name)) if !name.is_empty() => Ok(Attribute::Label(name.to_owned())),
            ("arch", _) => Ok(Attribute::Arch),
            ("kernel", _) => Ok(Attribute::Kernel),
            ("docker", _) => Ok(Attribute::Docker),
            ("name", _) => Ok(Attribute::Name),
            ("id", _) => Ok(Attribute::Id),
            ("cpus", _) => Ok(Attribute::Cpus),
            ("memory", _) => Ok(Attribute::Memory),
            ("and" | "AND", _) => Err(format!("column {}: write \"&&\", not {word}", token.column)),
            ("or" | "OR", _) => Err(format!("column {}: write \"||\", not {word}", token.column)),
            ("not" | "NOT", _) => Err(format!("column {}: write \"!\", not {word}", token.column)),
            _ => Err(format!(
                "column {}: expected {ATTRIBUTES}, not \"{word}\"; a node's label is label.{word}",
                token.column
            )),
        }
    }

    fn comparison(&mut self, attribute: Attribute, token: &Token) -> Result<Expr, String> {
        match &self.peek().what {
            What::Op(op) => {
                let (op, at) = (*op, self.advance());
                if has_no_order(&attribute) && !matches!(op, Op::Equal | Op::Unequal) {
                    return Err(format!(
                        "column {}: {attribute} has no order; compare it by == or !=",
                        at.column
                    ));
                }
                let literal = self.literal(&attribute, !matches!(op, Op::Equal | Op::Unequal))?;
                Ok(Expr::Compare(attribute, op, literal))
            }
            What::Word(word) if word == "in" => {
                self.advance();
                match self.advance() {
                    Token { what: What::OpenList, .. } => {}
                    other => return Err(expected("a list such as [\"a\", \"b\"]", other)),
                }
                let mut literals = Vec::new();
                loop {
                    literals.push(self.literal(&attribute, false)?);
                    match self.advance() {
                        Token { what: What::Comma, .. } => {}
                        Token { what: What::CloseList, .. } => break,
                        other => return Err(expected("\",\" or \"]\"", other)),
                    }
                }
                Ok(Expr::In(attribute, literals))
            }
            What::Word(_)
            | What::Text(_)
            | What::Number(_)
            | What::And
            | What::Or
            | What::Not
            | What::Open
            | What::Close
            | What::OpenList
            | What::CloseList
            | What::Comma
            | What::End => match attribute {
                Attribute::Label(_) => Ok(Expr::Has(attribute)),
                Attribute::Arch
                | Attribute::Kernel
                | Attribute::Docker
                | Attribute::Name
                | Attribute::Id
                | Attribute::Cpus
                | Attribute::Memory => {
                    let after = token.column + attribute.to_string().len();
                    Err(format!("column {after}: expected a comparison such as {attribute} == …"))
                }
            },
        }
    }

    /// What follows an operator, as the attribute understands it.
    fn literal(&mut self, attribute: &Attribute, ordered: bool) -> Result<Literal, String> {
        let token = self.advance();
        let (text, quoted) = match &token.what {
            What::Text(text) => (text.clone(), true),
            What::Number(text) => (text.clone(), false),
            What::Word(word) => {
                return Err(format!(
                    "column {}: a text stands in quotes: \"{word}\"",
                    token.column
                ));
            }
            What::Not
            | What::And
            | What::Or
            | What::Open
            | What::Close
            | What::Op(_)
            | What::OpenList
            | What::CloseList
            | What::Comma
            | What::End => return Err(expected("a text in quotes or a number", token)),
        };
        let wrong =
            |what: &str| format!("column {}: expected {what}, not \"{text}\"", token.column);
        let number = match attribute {
            Attribute::Memory => {
                let bytes = Bytes::parse(&text).map_err(|_| wrong("a size such as 512m or 2g"))?;
                Some(u128::from(bytes.0) * 1000)
            }
            Attribute::Cpus => Some(thousandths(&text).ok_or_else(|| wrong("a number such as 4"))?),
            Attribute::Label(_) if ordered => {
                Some(thousandths(&text).ok_or_else(|| wrong("a number such as 4"))?)
            }
            Attribute::Kernel | Attribute::Docker => {
                if pieces(&text).is_empty() {
                    return Err(wrong("a version such as 5.10"));
                }
                None
            }
            Attribute::Label(_) | Attribute::Arch | Attribute::Name | Attribute::Id => None,
        };
        Ok(Literal { text, quoted, number })
    }

    fn peek(&self) -> &'t Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn advance(&mut self) -> &'t Token {
        let token = self.peek();
        self.next += 1;
        token
    }
}

fn expected(wanted: &str, found: &Token) -> String {
    format!("column {}: expected {wanted}, not {}", found.column, found.what)
}

fn has_no_order(attribute: &Attribute) -> bool {
    matches!(attribute, Attribute::Arch | Attribute::Name | Attribute::Id)
}

/// One part is itself; parts that are joined by the same word become parts of the whole.
fn flat(
    parts: Vec<Expr>,
    join: fn(Vec<Expr>) -> Expr,
    inner: fn(Expr) -> Result<Vec<Expr>, Expr>,
) -> Expr {
    let mut all = Vec::new();
    for part in parts {
        match inner(part) {
            Ok(parts) => all.extend(parts),
            Err(part) => all.push(part),
        }
    }
    match all.pop() {
        Some(only) if all.is_empty() => only,
        last => {
            all.extend(last);
            join(all)
        }
    }
}
