//! What of a node is in use, told in coarse steps.
//!
//! Invariant: a value that trembles at a border between two steps is told as one of them, not as
//! both in turn: each new value would travel to the server.

use knit_rpc::message::Usage;

/// Percent of all CPUs.
const CPU_STEP: u64 = 10;
/// Of the node's memory.
const MEMORY_STEPS: u64 = 16;
/// Of the file system.
const DISK_STEPS: u64 = 64;

/// As read from the host, in full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    pub cpu_percent: u32,
    /// Bytes.
    pub memory: Amount,
    /// Bytes.
    pub disk: Amount,
}

/// Some of a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    pub used: u64,
    pub total: u64,
}

impl Amount {
    /// Whether more than so many percent are used; nothing is when the whole is unknown.
    pub fn is_over(self, percent: u8) -> bool {
        u128::from(self.used) * 100 > u128::from(self.total) * u128::from(percent) && self.total > 0
    }
}

/// What to tell, given what was told before.
pub fn told(before: Usage, now: Reading) -> Usage {
    let steps = |before, now: Amount, steps| stepped(before, now.used, now.total / steps);
    let cpu = stepped(before.cpu_percent.into(), now.cpu_percent.into(), CPU_STEP);
    Usage {
        cpu_percent: u32::try_from(cpu).unwrap_or(100),
        memory: steps(before.memory, now.memory, MEMORY_STEPS),
        disk: steps(before.disk, now.disk, DISK_STEPS),
    }
}

/// The nearest step; the one before while the value is within three quarters of a step of it.
fn stepped(before: u64, now: u64, step: u64) -> u64 {
    if step == 0 {
        return 0;
    }
    if before.is_multiple_of(step) && now.abs_diff(before) * 4 <= step * 3 {
        return before;
    }
    (now + step / 2) / step * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_in_steps_and_do_not_tremble() {
        let mut told = 0;
        for (now, expected) in [
            (4, 0),
            (7, 0),
            (8, 10),
            (5, 10),
            (4, 10),
            (3, 10),
            (2, 0),
            (96, 100),
            (100, 100),
            (93, 100),
            (92, 90),
        ] {
            told = stepped(told, now, 10);
            assert_eq!(told, expected, "{now}");
        }
        assert_eq!(stepped(7, 12, 10), 10, "what was told in other steps is nothing to keep");
        assert_eq!(stepped(10, 12, 0), 0, "nothing is known of the whole");
    }

    #[test]
    fn a_node_is_told_of_in_parts_of_its_own() {
        let gib = |count: u64| count << 30;
        let reading = Reading {
            cpu_percent: 34,
            memory: Amount { used: gib(3), total: gib(16) },
            disk: Amount { used: gib(31), total: gib(64) },
        };
        let expected = Usage { cpu_percent: 30, memory: gib(3), disk: gib(31) };
        assert_eq!(told(Usage::default(), reading), expected);
        assert_eq!(told(Usage::default(), Reading::default()), Usage::default());
    }

    #[test]
    fn a_file_system_is_over_a_mark_or_not() {
        assert!(Amount { used: 86, total: 100 }.is_over(85));
        assert!(!Amount { used: 85, total: 100 }.is_over(85));
        assert!(!Amount::default().is_over(0));
    }
}
