//! What a node has amounts of, and amounts as people read them.

use knit_rpc::api::Reserved;

use crate::snapshot::Node;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Cpu,
    Memory,
    Disk,
}

impl Resource {
    pub(crate) const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Disk];

    pub(crate) fn of(self, reserved: &Reserved) -> u64 {
        match self {
            Self::Cpu => reserved.cpu_millis,
            Self::Memory => reserved.memory,
            Self::Disk => reserved.disk,
        }
    }

    /// What a node has of it; 0 when it did not say.
    pub(crate) fn total(self, node: &Node) -> u64 {
        match self {
            Self::Cpu => u64::from(node.facts.cpus) * 1000,
            Self::Memory => node.facts.memory,
            Self::Disk => node.facts.disk,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }

    /// An amount as people read it: `0.5 CPUs`, `512 MiB`.
    pub(super) fn amount(self, amount: u64) -> String {
        match self {
            Self::Cpu => cpus(amount),
            Self::Memory | Self::Disk => size(amount),
        }
    }

    /// An amount with what it is an amount of: `0.5 CPUs`, `512 MiB of memory`.
    pub(super) fn amount_of(self, amount: u64) -> String {
        match self {
            Self::Cpu => cpus(amount),
            Self::Memory | Self::Disk => format!("{} of {}", size(amount), self.name()),
        }
    }
}

/// `0.5 CPUs`.
fn cpus(millis: u64) -> String {
    let number = format!("{}.{:03}", millis / 1000, millis % 1000);
    let number = number.trim_end_matches('0').trim_end_matches('.');
    format!("{number} CPU{}", if millis == 1000 { "" } else { "s" })
}

/// `300 MiB`, `1.2 GiB`: to a tenth, cut off.
pub(crate) fn size(bytes: u64) -> String {
    let (unit, factor) = match bytes {
        0x100_0000_0000.. => ("TiB", 1u64 << 40),
        0x4000_0000.. => ("GiB", 1 << 30),
        0x10_0000.. => ("MiB", 1 << 20),
        0x400.. => ("KiB", 1 << 10),
        _ => ("B", 1),
    };
    let (whole, tenths) = (bytes / factor, bytes % factor * 10 / factor);
    if tenths == 0 { format!("{whole} {unit}") } else { format!("{whole}.{tenths} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_well() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (512 << 20, "512 MiB"),
            (1 << 30, "1 GiB"),
            ((12 << 30) / 10, "1.1 GiB"),
            (3 << 40, "3 TiB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
        for (millis, expected) in [(500, "0.5 CPUs"), (1000, "1 CPU"), (12_345, "12.345 CPUs")] {
            assert_eq!(cpus(millis), expected);
        }
    }
}
