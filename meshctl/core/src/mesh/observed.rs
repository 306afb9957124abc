//! Our public address, as others see it behind a NAT.
//!
//! Each host has one vote, and a change needs a majority against the present address: with several
//! ways out, or one liar, the address that is announced does not flap.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::event::Now;

const VOTERS_MAX: usize = 32;
const VOTE_MAX_MS: u64 = 600_000;

#[derive(Default)]
pub(super) struct Observed {
    votes: BTreeMap<IpAddr, (Ipv4Addr, u64)>,
    current: Option<Ipv4Addr>,
}

impl Observed {
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.current
    }

    /// `voter` saw a message of ours come from `seen`.
    pub(super) fn vote(&mut self, voter: IpAddr, seen: Ipv4Addr, now: Now) {
        if !is_public(seen) || (self.votes.len() >= VOTERS_MAX && !self.votes.contains_key(&voter))
        {
            return;
        }
        self.votes.insert(voter, (seen, now.mono_ms));
        let mut counts: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
        for (ip, _) in self.votes.values() {
            *counts.entry(*ip).or_default() += 1;
        }
        let of_current = self.current.and_then(|ip| counts.get(&ip)).copied().unwrap_or_default();
        let best = counts.into_iter().max_by_key(|(_, count)| *count);
        if let Some((ip, _)) = best.filter(|(_, count)| *count > of_current) {
            self.current = Some(ip);
        }
    }

    pub(super) fn lapse(&mut self, now: Now) {
        self.votes.retain(|_, (_, at)| *at + VOTE_MAX_MS > now.mono_ms);
    }
}

fn is_public(ip: Ipv4Addr) -> bool {
    let shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_unspecified()
        || shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_changes_the_address_and_one_voice_does_not() {
        let mut observed = Observed::default();
        let mut vote = |voter: u8, seen: &str, mono_ms: u64| {
            let voter = IpAddr::from([192, 0, 2, voter]);
            observed.lapse(Now { mono_ms, unix: 0 });
            observed.vote(voter, seen.parse().unwrap(), Now { mono_ms, unix: 0 });
            observed.address().map(|ip| ip.to_string()).unwrap_or_default()
        };
        for private in ["10.0.0.1", "100.64.0.1", "127.0.0.1", "0.0.0.0", "169.254.1.1"] {
            assert_eq!(vote(1, private, 1), "", "{private}");
        }
        assert_eq!(vote(1, "203.0.113.5", 1), "203.0.113.5");
        assert_eq!(vote(2, "198.51.100.9", 2), "203.0.113.5", "one against one changes nothing");
        assert_eq!(vote(2, "198.51.100.9", 3), "203.0.113.5", "nor does repeating it");
        assert_eq!(vote(3, "198.51.100.9", 4), "198.51.100.9");
        assert_eq!(vote(1, "203.0.113.5", 700_000), "203.0.113.5", "old votes have lapsed");
    }
}
