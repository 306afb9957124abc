//! Images: what becomes of a container is told by its image's name, `KIND:ANYTHING`.

use std::time::Duration;

/// What a container of an image does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Good,
    /// Good, but it takes its time to be pulled.
    Slow,
    /// There is no such image.
    Missing,
    /// Its entrypoint cannot be executed.
    NoExec,
    /// It ends soon after each start.
    Crashing,
    /// It runs, and accepts no connections.
    NeverReady,
}

pub(super) const KINDS: [Kind; 6] =
    [Kind::Good, Kind::Slow, Kind::Missing, Kind::NoExec, Kind::Crashing, Kind::NeverReady];

impl Kind {
    pub(super) fn of(image: &str) -> Self {
        let kind = image.split(':').next().unwrap_or_default();
        KINDS.into_iter().find(|one| one.as_str() == kind).unwrap_or(Self::Good)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Slow => "slow",
            Self::Missing => "missing",
            Self::NoExec => "noexec",
            Self::Crashing => "crashing",
            Self::NeverReady => "never",
        }
    }

    /// Whether containers of it come to serve.
    pub(super) fn is_sound(self) -> bool {
        matches!(self, Self::Good | Self::Slow)
    }

    /// How long a container lives, if it ends by itself.
    pub(super) fn life(self) -> Option<Duration> {
        (self == Self::Crashing).then_some(Duration::from_millis(500))
    }
}
