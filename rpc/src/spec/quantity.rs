//! Amounts as people write them: `5s`, `512m`, `0.5`.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time in milliseconds, written as in `250ms`, `5s`, `1m30s`, `2h`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u64);

impl Span {
    pub const ZERO: Self = Self(0);

    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Reads `1m30s`; units are h, m, s and ms, each once at most, the greater first. A bare `0`
    /// needs none.
    pub fn parse(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        let wrong = || format!("must be a time such as 250ms, 5s or 1m30s, not \"{text}\"");
        if text == "0" {
            return Ok(Self::ZERO);
        }
        let (mut rest, mut total, mut next) = (text, 0u64, 0);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let amount: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let unit = &rest[..letters];
            let found = UNITS[next..].iter().position(|(name, _)| *name == unit);
            let index = next + found.ok_or_else(wrong)?;
            let millis = amount.checked_mul(UNITS[index].1).ok_or_else(wrong)?;
            total = total.checked_add(millis).ok_or_else(wrong)?;
            next = index + 1;
            rest = &rest[letters..];
        }
        if text.is_empty() { Err(wrong()) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        let mut text = String::new();
        for (unit, millis) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            if left >= millis {
                let _ = write!(text, "{}{unit}", left / millis);
                left %= millis;
            }
        }
        f.pad(if text.is_empty() { "0s" } else { &text })
    }
}

/// A number of bytes, written in Docker's notation: `512m`, `2g`; 1024 to the step.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub u64);

impl Bytes {
    /// Reads `512m`, `512MiB`, `1.5g` or a bare number of bytes.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("must be a size such as 512m or 2g, not \"{text}\"");
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let factor: u64 = match text[digits..].to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" | "ki" | "kib" => 1 << 10,
            "m" | "mb" | "mi" | "mib" => 1 << 20,
            "g" | "gb" | "gi" | "gib" => 1 << 30,
            "t" | "tb" | "ti" | "tib" => 1 << 40,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = text[..digits].split_once('.').unwrap_or((&text[..digits], ""));
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        if fraction.len() > 3 || fraction.contains('.') {
            return Err(wrong());
        }
        let thousandths: u64 = format!("{fraction:0<3}").parse().map_err(|_| wrong())?;
        let bytes = whole.checked_mul(factor).ok_or_else(wrong)?;
        Ok(Self(bytes.checked_add(thousandths * factor / 1000).ok_or_else(wrong)?))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("t", 1u64 << 40), ("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return f.pad(&format!("{}{unit}", self.0 / factor));
            }
        }
        f.pad(&self.0.to_string())
    }
}

/// CPUs in thousandths, written as a number such as `0.5`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "f64", into = "f64")]
pub struct Cpus(u32);

impl Cpus {
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> u32 {
        self.0
    }

    /// Reads `2`, `0.5` or `500m`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("must be a number of CPUs such as 0.5 or 2, not \"{text}\"");
        if let Some(millis) = text.strip_suffix('m') {
            return millis.parse().map(Self).map_err(|_| wrong());
        }
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let number: f64 = text.parse().map_err(|_| wrong())?;
        if plain { Self::try_from(number).map_err(|_| wrong()) } else { Err(wrong()) }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&f64::from(*self).to_string())
    }
}

impl TryFrom<f64> for Cpus {
    type Error = String;
    fn try_from(number: f64) -> Result<Self, String> {
        if !(0.0..=100_000.0).contains(&number) {
            return Err(format!("{number} is no number of CPUs"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 100 000 000"
        )]
        let millis = (number * 1000.0).round() as u32;
        Ok(Self(millis))
    }
}

impl From<Cpus> for f64 {
    fn from(cpus: Cpus) -> Self {
        Self::from(cpus.0) / 1000.0
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}
as_text!(Span);
as_text!(Bytes);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back() {
        for (text, millis) in
            [("0", 0), ("250ms", 250), ("5s", 5_000), ("1m30s", 90_000), ("2h", 7_200_000)]
        {
            let span = Span::parse(text).unwrap();
            assert_eq!(span.as_millis(), millis, "{text}");
            assert_eq!(Span::parse(&span.to_string()).unwrap(), span, "{text}");
        }
        for bad in ["", "5", "s", "1s1m", "5 s", "-1s", "1.5s", "99999999999999999999s", "5x"] {
            assert!(Span::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_read_back() {
        for (text, bytes) in [
            ("0", 0),
            ("1023", 1023),
            ("512m", 512 << 20),
            ("512MiB", 512 << 20),
            ("1.5g", 3 << 29),
            ("2T", 2 << 40),
        ] {
            let size = Bytes::parse(text).unwrap();
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(Bytes::parse(&size.to_string()).unwrap(), size, "{text}");
        }
        for bad in ["", "m", "1x", "1..5g", "-1m", "99999999999999t", "1.2345g"] {
            assert!(Bytes::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cpus_read_back() {
        for (text, millis) in [("0.5", 500), ("2", 2000), ("250m", 250), ("0.001", 1)] {
            let cpus = Cpus::parse(text).unwrap();
            assert_eq!(cpus.as_millis(), millis, "{text}");
            assert_eq!(Cpus::parse(&cpus.to_string()).unwrap(), cpus, "{text}");
        }
        for bad in ["", "x", "-1", "inf", "NaN", "1e9", "200000"] {
            assert!(Cpus::parse(bad).is_err(), "{bad}");
        }
    }
}
