//! The daemon's time: steady for deadlines, the wall's for the wire.

use std::time::Instant;

use meshctl_core::mesh::Now;

/// Hands out moments. The steady half begins at a day, so that ages can be subtracted from it.
pub(super) struct Clock(Instant);

const STEADY_BEGIN_MS: u64 = 24 * 3600 * 1000;

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(&self) -> Now {
        let steady = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall_secs = knit_runtime::clock::now().as_millis() / 1000;
        Now {
            mono_ms: STEADY_BEGIN_MS + steady,
            unix: i64::try_from(wall_secs).unwrap_or(i64::MAX),
        }
    }

    pub(super) fn uptime_nanos(&self) -> i64 {
        i64::try_from(self.0.elapsed().as_nanos()).unwrap_or(i64::MAX)
    }
}
