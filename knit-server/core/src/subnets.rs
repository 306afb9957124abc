//! Allots each node a /24 of the cluster's container addresses.
//!
//! Invariant: no two nodes of a cluster share a container address, and a node keeps its subnet:
//! containers run on it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Prefix length of a node's subnet.
pub const NODE_PREFIX: u8 = 24;
/// Pools to move aside to when the wanted one overlaps the mesh or the host everywhere.
const ASIDE: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 212, 0, 0), 14),
    (Ipv4Addr::new(10, 216, 0, 0), 14),
    (Ipv4Addr::new(172, 24, 0, 0), 14),
    (Ipv4Addr::new(172, 20, 0, 0), 14),
];

/// What a subnet has to be free of.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The mesh, and the networks that the node's host knows.
    pub avoid: Vec<Ipv4Net>,
    /// Subnets of other nodes.
    pub taken: BTreeSet<Ipv4Net>,
}

/// Returns the node's subnet: the one it has, if no other node has it too; else the first free
/// one. `None` when nothing is left.
pub fn allot(pool: Ipv4Net, own: Option<Ipv4Net>, surroundings: &Surroundings) -> Option<Ipv4Net> {
    // The host's own bridge stands on it, so the host's networks do not speak against it.
    if let Some(own) = own.filter(|own| own.prefix_len() >= 8 && own.prefix_len() <= NODE_PREFIX)
        && !surroundings.taken.iter().any(|taken| overlap(*taken, own))
    {
        return Some(own.trunc());
    }
    let aside = ASIDE.iter().filter_map(|(address, prefix)| Ipv4Net::new(*address, *prefix).ok());
    std::iter::once(pool).chain(aside).find_map(|pool| first_free(pool, surroundings))
}

fn first_free(pool: Ipv4Net, surroundings: &Surroundings) -> Option<Ipv4Net> {
    let prefix = NODE_PREFIX.max(pool.prefix_len());
    pool.subnets(prefix).ok()?.find(|subnet| {
        !surroundings.taken.contains(subnet)
            && !surroundings.taken.iter().any(|taken| overlap(*taken, *subnet))
            && !surroundings.avoid.iter().any(|network| {
                // A default route overlaps everything and means nothing here.
                network.prefix_len() > 0 && overlap(*network, *subnet)
            })
    })
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn around(avoid: &[&str], taken: &[&str]) -> Surroundings {
        Surroundings {
            avoid: avoid.iter().map(|text| net(text)).collect(),
            taken: taken.iter().map(|text| net(text)).collect(),
        }
    }

    #[test]
    fn each_node_gets_the_first_subnet_that_is_free() {
        let pool = net("10.208.0.0/14");
        for (own, avoid, taken, expected) in [
            (None, &[][..], &[][..], "10.208.0.0/24"),
            (None, &["0.0.0.0/0"], &["10.208.0.0/24"], "10.208.1.0/24"),
            (None, &["10.208.0.0/16"], &[], "10.209.0.0/24"),
            (None, &["10.208.3.7/32", "10.208.0.0/23"], &["10.208.2.0/24"], "10.208.4.0/24"),
            (None, &["10.0.0.0/8"], &[], "172.24.0.0/24"),
            (Some("10.208.9.0/24"), &["10.208.9.0/24"], &[], "10.208.9.0/24"),
            (Some("10.208.9.0/24"), &[], &["10.208.9.0/24"], "10.208.0.0/24"),
            (Some("0.0.0.0/0"), &[], &[], "10.208.0.0/24"),
        ] {
            let got = allot(pool, own.map(net), &around(avoid, taken));
            assert_eq!(got, Some(net(expected)), "{own:?} {avoid:?} {taken:?}");
        }
    }

    #[test]
    fn a_full_pool_moves_aside_and_ends() {
        let pool = net("10.1.0.0/24");
        assert_eq!(allot(pool, None, &around(&[], &["10.1.0.0/24"])), Some(net("10.212.0.0/24")));
        assert_eq!(allot(pool, None, &around(&["10.0.0.0/8", "172.16.0.0/12"], &[])), None);
    }
}
