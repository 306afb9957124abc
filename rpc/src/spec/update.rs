//! How one revision takes the place of another.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Span;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct UpdateSpec {
    pub strategy: Strategy,
    /// Slots that change at once.
    #[schema(value_type = String)]
    pub wave: Wave,
    pub order: Order,
    /// How long a wave must stay healthy before the next one.
    #[schema(value_type = String)]
    pub bake: Span,
    /// How long a rollout may go without a further instance becoming healthy.
    #[schema(value_type = String)]
    pub deadline: Span,
    /// How long an instance whose ports were taken over keeps the connections that it has.
    #[schema(value_type = String)]
    pub drain: Span,
    pub on_failure: OnFailure,
}

pub(super) fn drain_default() -> Span {
    Span::from_secs(2)
}

impl Default for UpdateSpec {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            wave: Wave::default(),
            order: Order::default(),
            bake: Span::from_secs(5),
            deadline: Span::from_secs(300),
            drain: drain_default(),
            on_failure: OnFailure::default(),
        }
    }
}

impl UpdateSpec {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Wave by wave.
    #[default]
    Rolling,
    /// All old ones stop before the first new one starts.
    Recreate,
    /// One wave, then it waits for `knit rollout promote`; then as rolling.
    Canary,
    /// All new ones start beside the old ones; once all are healthy the ports move at once.
    BlueGreen,
}

impl Strategy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Recreate => "recreate",
            Self::Canary => "canary",
            Self::BlueGreen => "blue-green",
        }
    }
}

/// Which of a slot's two revisions gives way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Start-first, unless a volume or the host's network forces stop-first.
    #[default]
    Auto,
    /// The new one is healthy before the old one stops.
    StartFirst,
    /// The old one is gone before the new one starts.
    StopFirst,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Back to the last stable revision.
    #[default]
    Rollback,
    /// Everything stays as it is until somebody says how to go on.
    Pause,
}

/// A share of the slots, written `25%`, or a number of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Wave {
    /// From 1 to 100.
    Percent(u32),
    /// At least 1.
    Slots(u32),
}

impl Default for Wave {
    fn default() -> Self {
        Self::Percent(25)
    }
}

impl Wave {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("must be a share such as 25% or a number of slots, not \"{text}\"");
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(wrong()),
            },
            None => match text.parse() {
                Ok(slots @ 1..) => Ok(Self::Slots(slots)),
                _ => Err(wrong()),
            },
        }
    }

    /// How many of `slots` change at once: at least one.
    pub fn of(self, slots: u32) -> u32 {
        match self {
            Self::Percent(percent) => {
                let share = u64::from(slots) * u64::from(percent) / 100;
                u32::try_from(share).unwrap_or(u32::MAX).max(1)
            }
            Self::Slots(count) => count.max(1),
        }
    }
}

impl fmt::Display for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Slots(slots) => write!(f, "{slots}"),
        }
    }
}

impl TryFrom<String> for Wave {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Wave> for String {
    fn from(wave: Wave) -> Self {
        wave.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_at_least_one_slot() {
        for (text, slots, expected) in
            [("25%", 10, 2), ("25%", 1, 1), ("100%", 7, 7), ("3", 10, 3), ("25%", 0, 1)]
        {
            assert_eq!(Wave::parse(text).unwrap().of(slots), expected, "{text} of {slots}");
        }
        for bad in ["", "0", "0%", "101%", "-1", "x", "%"] {
            assert!(Wave::parse(bad).is_err(), "{bad}");
        }
    }
}
