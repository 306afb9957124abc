//! Which networks behind peers are reached through them.
//!
//! Any member can claim any network. A claim counts inside what the user accepts, and there only if
//! it takes nothing from anybody: not the default route, nothing of the mesh, nothing that this host
//! reaches already (its LANs, its containers), and nothing that another peer was given first.
//!
//! Invariant: no two accepted routes overlap, unless one peer has both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use crate::key::PublicKey;

/// Anything wider is somebody's idea of a default route.
const PREFIX_LEN_MIN: u8 = 8;
const ROUTES_MAX: usize = 256;
const TOLD_MAX: usize = 256;

/// Why a claimed route is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteRefusal {
    TooWide,
    /// Loopback, link-local, multicast and the like.
    Special,
    OfTheMesh,
    OfThisHost(Ipv4Net),
    OfAnotherPeer(PublicKey),
    TooMany,
}

impl fmt::Display for RouteRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooWide => write!(f, "it is wider than a /{PREFIX_LEN_MIN}"),
            Self::Special => f.write_str("it is no network that can be routed"),
            Self::OfTheMesh => f.write_str("it overlaps the mesh itself"),
            Self::OfThisHost(net) => write!(f, "this host reaches {net} without the mesh"),
            Self::OfAnotherPeer(key) => write!(f, "peer {key} had it first"),
            Self::TooMany => write!(f, "{ROUTES_MAX} routes are accepted already"),
        }
    }
}

#[derive(Default)]
pub(super) struct Routes {
    accept: Vec<Ipv4Net>,
    /// What the host reaches without the mesh; `None` before it is known, and then nothing counts.
    local: Option<Vec<Ipv4Net>>,
    owners: BTreeMap<Ipv4Net, PublicKey>,
    told: BTreeSet<(PublicKey, Ipv4Net)>,
    /// Every claim that is refused at present.
    refused: Vec<Refused>,
}

/// A route that a peer claims and that is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub by: PublicKey,
    pub route: Ipv4Net,
    pub why: RouteRefusal,
}

impl Routes {
    pub(super) fn new(accept: &[Ipv4Net]) -> Self {
        Self { accept: accept.iter().map(Ipv4Net::trunc).collect(), ..Self::default() }
    }

    pub(super) fn set_local(&mut self, local: Vec<Ipv4Net>) {
        self.local = Some(local);
    }

    /// Whether the routes are known: before, those of an earlier run stay as they are.
    pub(super) fn is_settled(&self) -> bool {
        self.accept.is_empty() || self.local.is_some()
    }

    pub(super) fn of(&self, key: &PublicKey) -> Vec<Ipv4Net> {
        self.owners.iter().filter(|(_, owner)| *owner == key).map(|(net, _)| *net).collect()
    }

    pub(super) fn all(&self) -> Vec<Ipv4Net> {
        self.owners.keys().copied().collect()
    }

    /// The routes in use, with whose they are, sorted.
    pub(super) fn owned(&self) -> impl Iterator<Item = (Ipv4Net, PublicKey)> {
        self.owners.iter().map(|(net, key)| (*net, *key))
    }

    pub(super) fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Goes through what peers claim now, and returns what is refused for the first time. Who has a
    /// route keeps it as long as it is claimed.
    pub(super) fn update(
        &mut self,
        claims: &BTreeMap<PublicKey, Vec<IpNet>>,
        mesh: Ipv4Net,
    ) -> Vec<Refused> {
        let mut refused = Vec::new();
        self.refused.clear();
        let Some(local) = self.local.as_deref().filter(|_| !self.accept.is_empty()) else {
            return refused;
        };
        let is_claimed = |net: &Ipv4Net, key: &PublicKey| {
            claims.get(key).is_some_and(|nets| nets.contains(&IpNet::V4(*net)))
        };
        self.owners.retain(|net, key| is_claimed(net, key) && judge(*net, mesh, local).is_ok());
        for (key, nets) in claims {
            for net in nets.iter().filter_map(v4) {
                let accepted = self.accept.iter().any(|accept| accept.contains(&net));
                if !accepted || self.owners.get(&net) == Some(key) {
                    continue;
                }
                let verdict =
                    judge(net, mesh, local).and_then(|()| free_for(*key, net, &self.owners));
                match verdict {
                    Ok(()) => {
                        self.owners.insert(net, *key);
                    }
                    Err(why) => {
                        let this = Refused { by: *key, route: net, why };
                        if self.refused.len() < TOLD_MAX {
                            self.refused.push(this);
                        }
                        if self.told.len() < TOLD_MAX && self.told.insert((*key, net)) {
                            refused.push(this);
                        }
                    }
                }
            }
        }
        refused
    }
}

fn v4(net: &IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(net.trunc()),
        IpNet::V6(_) => None,
    }
}

fn judge(net: Ipv4Net, mesh: Ipv4Net, local: &[Ipv4Net]) -> Result<(), RouteRefusal> {
    if net.prefix_len() < PREFIX_LEN_MIN {
        return Err(RouteRefusal::TooWide);
    }
    if is_special(net.network()) || is_special(net.broadcast()) {
        return Err(RouteRefusal::Special);
    }
    if overlap(net, mesh) {
        return Err(RouteRefusal::OfTheMesh);
    }
    match local.iter().find(|local| overlap(net, **local)) {
        Some(local) => Err(RouteRefusal::OfThisHost(*local)),
        None => Ok(()),
    }
}

fn free_for(
    key: PublicKey,
    net: Ipv4Net,
    owners: &BTreeMap<Ipv4Net, PublicKey>,
) -> Result<(), RouteRefusal> {
    let taken = owners.iter().find(|(other, owner)| **owner != key && overlap(net, **other));
    match taken {
        Some((_, owner)) => Err(RouteRefusal::OfAnotherPeer(*owner)),
        None if owners.len() >= ROUTES_MAX => Err(RouteRefusal::TooMany),
        None => Ok(()),
    }
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

fn is_special(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 0 || ip.is_loopback() || ip.is_link_local() || ip.octets()[0] >= 224
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn claims(of: &[(u8, &[&str])]) -> BTreeMap<PublicKey, Vec<IpNet>> {
        let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
        of.iter().map(|(number, claimed)| (key(*number), nets(claimed))).collect()
    }

    fn routes(accept: &str) -> Routes {
        let mut routes = Routes::new(&[net(accept)]);
        routes.set_local(vec![net("192.168.1.0/24"), net("172.17.0.0/16")]);
        routes
    }

    fn refusal(claim: &str) -> Option<RouteRefusal> {
        let refused = routes("0.0.0.0/0").update(&claims(&[(1, &[claim])]), net("10.45.0.0/16"));
        refused.first().map(|refused| refused.why)
    }

    #[test]
    fn nothing_is_taken_from_the_host_or_the_mesh() {
        let host = |text: &str| Some(RouteRefusal::OfThisHost(net(text)));
        for (claim, expected) in [
            ("10.99.2.0/24", None),
            ("0.0.0.0/0", Some(RouteRefusal::TooWide)),
            ("0.0.0.0/1", Some(RouteRefusal::TooWide)),
            ("128.0.0.0/1", Some(RouteRefusal::TooWide)),
            ("10.0.0.0/8", Some(RouteRefusal::OfTheMesh)),
            ("10.45.0.0/16", Some(RouteRefusal::OfTheMesh)),
            ("10.45.15.238/32", Some(RouteRefusal::OfTheMesh)),
            ("192.168.0.0/16", host("192.168.1.0/24")),
            ("192.168.1.1/32", host("192.168.1.0/24")),
            ("172.17.0.2/32", host("172.17.0.0/16")),
            ("127.0.0.0/8", Some(RouteRefusal::Special)),
            ("169.254.0.0/16", Some(RouteRefusal::Special)),
            ("224.0.0.0/8", Some(RouteRefusal::Special)),
            ("0.0.0.0/8", Some(RouteRefusal::Special)),
        ] {
            assert_eq!(refusal(claim), expected, "{claim}");
        }
        assert_eq!(refusal("2001:db8::/32"), None, "IPv6 is left out without a word");
    }

    #[test]
    fn only_what_the_user_accepts_counts_and_only_once_the_host_is_known() {
        let mesh = net("10.45.0.0/16");
        let two = claims(&[(1, &["10.99.2.0/24", "10.98.0.0/24"])]);
        let mut some = routes("10.99.0.0/16");
        assert!(some.update(&two, mesh).is_empty());
        assert_eq!(some.of(&key(1)), [net("10.99.2.0/24")]);
        let mut none = Routes::new(&[]);
        none.set_local(Vec::new());
        none.update(&two, mesh);
        assert_eq!(none.all(), []);
        let mut early = Routes::new(&[net("0.0.0.0/0")]);
        early.update(&two, mesh);
        assert_eq!(early.all(), [], "what the host reaches is not known yet");
    }

    #[test]
    fn the_first_owner_keeps_a_route_until_it_gives_it_up() {
        let mesh = net("10.45.0.0/16");
        let mut routes = routes("10.0.0.0/8");
        routes.update(&claims(&[(9, &["10.99.2.0/24"])]), mesh);
        let thieves = claims(&[
            (1, &["10.99.2.0/24"]),
            (2, &["10.99.2.7/32"]),
            (3, &["10.99.0.0/16"]),
            (9, &["10.99.2.0/24", "10.99.2.128/25"]),
        ]);
        let refused = routes.update(&thieves, mesh);
        assert_eq!(refused.len(), 3);
        assert!(refused.iter().all(|one| one.why == RouteRefusal::OfAnotherPeer(key(9))));
        assert_eq!(routes.of(&key(9)), [net("10.99.2.0/24"), net("10.99.2.128/25")]);
        assert!(routes.update(&thieves, mesh).is_empty(), "each is told once");

        routes.update(&claims(&[(1, &["10.99.2.0/24"])]), mesh);
        assert_eq!(routes.of(&key(1)), [net("10.99.2.0/24")], "given up, so the next one has it");
        routes.set_local(vec![net("10.99.2.0/24")]);
        routes.update(&claims(&[(1, &["10.99.2.0/24"])]), mesh);
        assert_eq!(routes.all(), [], "the host has got a LAN of its own there");
    }
}
