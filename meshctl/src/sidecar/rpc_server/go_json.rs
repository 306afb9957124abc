//! JSON as Go's encoder writes it.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Renders compactly, with `<`, `>`, `&` and the two line separators escaped.
pub(super) fn render(value: &impl Serialize) -> String {
    // Strings and structs of strings and numbers always serialise.
    escape(&serde_json::to_string(value).unwrap_or_default())
}

/// Renders a request's id as it comes back out of Go: numbers through a float, keys sorted.
pub(super) fn id(raw: &RawValue) -> String {
    // serde_json may miss a float's last digit, the standard library does not.
    let number = raw.get().trim().parse::<f64>().ok().filter(|number| number.is_finite());
    match number {
        Some(number) => float(number),
        None => part_of_id(&serde_json::from_str(raw.get()).unwrap_or_default()),
    }
}

fn part_of_id(value: &Value) -> String {
    match value {
        Value::Number(number) => float(number.as_f64().unwrap_or_default()),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(part_of_id).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(object) => {
            let mut keys: Vec<_> = object.iter().collect();
            keys.sort_by_key(|(key, _)| *key);
            let entries: Vec<String> = keys
                .iter()
                .map(|(key, value)| format!("{}:{}", render(key), part_of_id(value)))
                .collect();
            format!("{{{}}}", entries.join(","))
        }
        Value::Null | Value::Bool(_) | Value::String(_) => render(value),
    }
}

/// These bytes stand only inside strings, so the text can be escaped as a whole.
fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            '<' => escaped.push_str(r"\u003c"),
            '>' => escaped.push_str(r"\u003e"),
            '&' => escaped.push_str(r"\u0026"),
            '\u{2028}' => escaped.push_str(r"\u2028"),
            '\u{2029}' => escaped.push_str(r"\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn float(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{number:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                format!("{digits}e+{exponent}")
            }
            _ => text,
        };
    }
    format!("{number}")
}
