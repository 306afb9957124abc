//! How busy the host is, and how full.

use std::path::Path;

use knit_agent_core::usage::Amount;

/// CPU time so far, in ticks: of it all, and of what was idle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticks {
    total: u64,
    idle: u64,
}

impl Ticks {
    /// As the kernel counts now; nothing when it does not say.
    pub fn now() -> Self {
        std::fs::read_to_string("/proc/stat").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guests are within user.
        let ticks: Vec<u64> =
            line.split_whitespace().take(8).map(|field| field.parse().unwrap_or(0)).collect();
        let idle = ticks.get(3).unwrap_or(&0) + ticks.get(4).unwrap_or(&0);
        Self { total: ticks.iter().sum(), idle }
    }

    /// Percent of all CPUs that were busy since `before`.
    pub fn busy_since(self, before: Self) -> u32 {
        let total = self.total.saturating_sub(before.total);
        let idle = self.idle.saturating_sub(before.idle).min(total);
        let percent = ((total - idle) * 100).checked_div(total).unwrap_or(0);
        u32::try_from(percent).unwrap_or(100)
    }
}

/// Memory that is used, in bytes: what programs could get is not.
pub fn memory() -> Amount {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    let total = bytes("MemTotal:").unwrap_or(0);
    let free = bytes("MemAvailable:").unwrap_or(total);
    Amount { used: total.saturating_sub(free), total }
}

/// The file system that a directory is on, in bytes; nothing when it cannot be seen from here.
pub fn disk(directory: &Path) -> Amount {
    let Ok(shown) = nix::sys::statvfs::statvfs(directory) else { return Amount::default() };
    let bytes = |blocks: u64| blocks.saturating_mul(shown.fragment_size());
    // What is kept back for root can be written by nobody else: as Docker's is root, it counts.
    let free = bytes(shown.blocks_free());
    let total = bytes(shown.blocks());
    Amount { used: total.saturating_sub(free), total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_busy_ticks_is_told() {
        let before = Ticks::parse("cpu  100 0 100 700 100 0 0 0 5 5\ncpu0 1 1 1 1\n");
        let now = Ticks::parse("cpu  130 0 120 740 110 0 0 0 9 9\n");
        assert_eq!(now.busy_since(before), 50);
        assert_eq!(now.busy_since(now), 0);
        assert_eq!(before.busy_since(now), 0, "a counter that went back");
        assert_eq!(Ticks::parse("rubbish"), Ticks::default());
    }

    #[test]
    fn this_host_has_memory_and_a_disk() {
        let (memory, disk) = (memory(), disk(Path::new("/")));
        assert!(memory.used > 0 && memory.used < memory.total, "{memory:?}");
        assert!(disk.used > 0 && disk.used <= disk.total, "{disk:?}");
        assert_eq!(super::disk(Path::new("/no/such/directory")), Amount::default());
    }
}
