//! What a container may take of its node, in the engine's units.

use knit_rpc::spec::Resources;

/// Shares of one whole CPU.
const SHARES_PER_CPU: u64 = 1024;
/// What the kernel takes.
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;
/// Docker takes no smaller reservation.
const RESERVATION_MIN: u64 = 6 * 1024 * 1024;

/// None where there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes; above this the container is killed. Memory and swap together have the same bound:
    /// else swap would soften it.
    pub memory: Option<u64>,
    /// Bytes that it keeps when memory is short.
    pub memory_reservation: Option<u64>,
    /// Its weight when CPUs are short.
    pub cpu_shares: Option<u64>,
}

impl Limits {
    pub fn of(resources: Resources) -> Self {
        let memory = resources.memory_max.map(|bytes| bytes.0);
        let reserved = resources.memory.map(|bytes| bytes.0);
        let useful =
            |bytes: &u64| *bytes >= RESERVATION_MIN && memory.is_none_or(|max| *bytes < max);
        let shares = |millis: u32| u64::from(millis) * SHARES_PER_CPU / 1000;
        Self {
            memory,
            memory_reservation: reserved.filter(useful),
            cpu_shares: resources
                .cpu
                .map(|cpus| shares(cpus.as_millis()).clamp(SHARES_MIN, SHARES_MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use knit_rpc::spec::{Bytes, Cpus};

    use super::*;

    #[test]
    fn what_is_reserved_and_what_is_allowed_become_limits() {
        let mib = |count: u64| count << 20;
        for (cpu, memory, memory_max, expected) in [
            (None, None, None, (None, None, None)),
            (Some(500), Some(64), Some(128), (Some(512), Some(64), Some(128))),
            (Some(2_000), Some(64), None, (Some(2048), Some(64), None)),
            (Some(1), Some(64), Some(64), (Some(2), None, Some(64))),
            (Some(4_000_000), Some(5), None, (Some(262_144), None, None)),
        ] {
            let limits = Limits::of(Resources {
                cpu: cpu.map(Cpus::from_millis),
                memory: memory.map(|count| Bytes(mib(count))),
                disk: None,
                memory_max: memory_max.map(|count| Bytes(mib(count))),
            });
            let (shares, reservation, max) = expected;
            let expected = Limits {
                cpu_shares: shares,
                memory_reservation: reservation.map(mib),
                memory: max.map(mib),
            };
            assert_eq!(limits, expected);
        }
    }
}
