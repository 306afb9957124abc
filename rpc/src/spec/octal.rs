//! Permission bits as octal digits.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Reads what stands in manifests: at least three octal digits, with or without `0o` before them.
pub(super) fn parse(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(bits) if bits <= 0o777 && digits.len() >= 3 => Ok(bits),
        _ => Err(format!("must be octal digits such as \"0444\", not {text}")),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
pub(super) fn serialize<S: Serializer>(bits: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{bits:04o}"))
}

/// Takes a number as well: the bits themselves, as they were once stored.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    struct Bits;

    impl Visitor<'_> for Bits {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("octal digits, or a number of bits")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u32, E> {
            parse(text).map_err(E::custom)
        }

        fn visit_u64<E: Error>(self, bits: u64) -> Result<u32, E> {
            u32::try_from(bits).map_err(E::custom)
        }
    }

    deserializer.deserialize_any(Bits)
}
