//! Our public address, as others see it behind a NAT.
//!
//! Each host has one vote, a STUN server that the user names has two, and a change needs a majority
//! against the present address: with several ways out, or one liar, the address that is announced
//! does not flap.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::event::Now;

const VOTERS_MAX: usize = 32;
const VOTE_MAX_MS: u64 = 600_000;

/// Who says where we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Voter {
    Peer(IpAddr),
    Stun(IpAddr),
}

impl Voter {
    /// The user chose his servers, and nobody chose his peers: one server outweighs one peer, and
    /// two peers keep an address against one server.
    const fn weight(self) -> usize {
        match self {
            Self::Peer(_) => 1,
            Self::Stun(_) => 2,
        }
    }
}

#[derive(Default)]
pub(super) struct Observed {
    votes: BTreeMap<Voter, (Ipv4Addr, u64)>,
    current: Option<Ipv4Addr>,
}

impl Observed {
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.current
    }

    /// `voter` saw a message of ours come from `seen`.
    pub(super) fn vote(&mut self, voter: Voter, seen: Ipv4Addr, now: Now) {
        let is_full = self.votes.len() >= VOTERS_MAX && !self.votes.contains_key(&voter);
        if !is_public(seen) || (is_full && matches!(voter, Voter::Peer(_))) {
            return;
        }
        self.votes.insert(voter, (seen, now.mono_ms));
        let mut counts: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
        for (voter, (ip, _)) in &self.votes {
            *counts.entry(*ip).or_default() += voter.weight();
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
            let voter = Voter::Peer(IpAddr::from([192, 0, 2, voter]));
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

    /// Several ways out: the servers see one address, peers another (B9 of the Go daemon).
    #[test]
    fn servers_and_peers_that_disagree_do_not_make_it_flap() {
        let mut observed = Observed::default();
        let (server, peers) = ("203.0.113.5".parse().unwrap(), "198.51.100.9".parse().unwrap());
        let host = |number: u8| IpAddr::from([192, 0, 2, number]);
        let mut seen = Vec::new();
        for minute in 0..60 {
            let now = Now { mono_ms: minute * 60_000, unix: 0 };
            observed.lapse(now);
            observed.vote(Voter::Peer(host(1)), peers, now);
            observed.vote(Voter::Stun(host(9)), server, now);
            observed.vote(Voter::Peer(host(2)), peers, now);
            seen.push(observed.address());
        }
        assert!(seen.iter().all(|address| *address == Some(server)), "{seen:?}");
        observed.vote(Voter::Peer(host(3)), peers, Now { mono_ms: 3_600_000, unix: 0 });
        assert_eq!(observed.address(), Some(peers), "a majority is a majority");
    }
}
