//! Request lines, read with the Go decoder's habits: key names in any case, the last duplicate
//! wins, unknown keys are ignored, `null` leaves a field as it was.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

#[derive(Debug)]
pub(super) struct Request {
    pub(super) jsonrpc: String,
    pub(super) method: String,
    pub(super) params: Option<Map<String, Value>>,
    /// As it stands in the line: its digits matter.
    pub(super) id: Box<RawValue>,
}

/// Parses a line; the error's text is only for people.
pub(super) fn parse(line: &[u8]) -> Result<Request, String> {
    let text = String::from_utf8_lossy(line);
    let entries: Option<Entries> = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let mut request = Request {
        jsonrpc: String::new(),
        method: String::new(),
        params: None,
        id: RawValue::NULL.to_owned(),
    };
    for (key, value) in entries.map(|entries| entries.0).unwrap_or_default() {
        let name = key.to_ascii_lowercase();
        if name == "id" {
            request.id = value;
            continue;
        }
        let value: Value = serde_json::from_str(value.get()).map_err(|e| e.to_string())?;
        match (name.as_str(), value) {
            ("params", Value::Object(params)) => request.params = Some(params),
            ("params", Value::Null) => request.params = None,
            ("jsonrpc", Value::String(text)) => request.jsonrpc = text,
            ("method", Value::String(text)) => request.method = text,
            ("jsonrpc" | "method", Value::Null) => {}
            ("jsonrpc" | "method" | "params", _) => {
                return Err(format!("field `{key}` has a wrong type"));
            }
            _ => {}
        }
    }
    Ok(request)
}

/// An object's entries in the order in which they stand, duplicates included.
struct Entries(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON-RPC request object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
