//! Whether a node meets an expression.

use std::cmp::Ordering;

use super::{Attribute, Expr, Literal, Number, Op, Value};

/// Whether `expr` holds of the node that `lookup` knows.
pub(super) fn holds(expr: &Expr, lookup: &dyn Fn(&Attribute) -> Option<Value>) -> bool {
    match expr {
        Expr::Any(parts) => parts.iter().any(|part| holds(part, lookup)),
        Expr::All(parts) => parts.iter().all(|part| holds(part, lookup)),
        Expr::Not(inner) => !holds(inner, lookup),
        Expr::Has(attribute) => lookup(attribute).is_some(),
        Expr::Compare(attribute, op, literal) => {
            let order = lookup(attribute).and_then(|value| {
                let ordered = !matches!(op, Op::Equal | Op::Unequal);
                order(attribute, &value, literal, ordered)
            });
            op.takes(order)
        }
        Expr::In(attribute, literals) => lookup(attribute).is_some_and(|value| {
            literals
                .iter()
                .any(|literal| order(attribute, &value, literal, false) == Some(Ordering::Equal))
        }),
    }
}

impl Op {
    /// Whether the operator holds of two values in this order; `None` compares unequal.
    fn takes(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::Unequal => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => order.is_some_and(Ordering::is_le),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }
}

/// How a node's value compares with a literal. Labels are equal by their text and ordered by the
/// number that they hold; one that holds none has no order.
fn order(
    attribute: &Attribute,
    value: &Value,
    literal: &Literal,
    ordered: bool,
) -> Option<Ordering> {
    match (attribute, value) {
        (_, Value::Number(number)) => Some((u128::from(*number) * 1000).cmp(&literal.number?)),
        (Attribute::Kernel | Attribute::Docker, Value::Text(text)) => {
            Some(pieces(text).cmp(&pieces(&literal.text)))
        }
        (Attribute::Label(_), Value::Text(text)) if ordered => {
            Some(thousandths(text)?.cmp(&literal.number?))
        }
        (
            Attribute::Label(_)
            | Attribute::Arch
            | Attribute::Name
            | Attribute::Id
            | Attribute::Cpus
            | Attribute::Memory,
            Value::Text(text),
        ) => Some(text.as_str().cmp(&literal.text)),
    }
}

/// The dotted numbers that a version begins with, without zeros at the end: `6.1.0-21-amd64` is
/// `[6, 1]`, and so is `6.1`.
pub(super) fn pieces(version: &str) -> Vec<u64> {
    let mut pieces = Vec::new();
    for piece in version.trim_start_matches('v').split('.') {
        let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
        let Ok(number) = piece[..digits].parse() else { break };
        pieces.push(number);
        if digits < piece.len() {
            break;
        }
    }
    while pieces.last() == Some(&0) {
        pieces.pop();
    }
    pieces
}

/// A decimal number with at most three digits behind the point, in thousandths.
pub(super) fn thousandths(text: &str) -> Option<Number> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 || whole.len() > 20 {
        return None;
    }
    let whole: Number = whole.parse().ok()?;
    let fraction: Number = format!("{fraction:0<3}").parse().ok()?;
    Some(whole * 1000 + fraction)
}
