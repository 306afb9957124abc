//! The protocol's test vectors: what the Go daemon derives, seals and says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod derivation;
mod envelopes;

use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../wg-mesh-vectors.json")).unwrap()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} is missing"))
}
