//! Networks: which ones instances join, what is in their way, and which ones go.
//!
//! ```text
//! wanted by an instance, not here          EnsureNetwork, before its container is made
//! wanted, here with another subnet         made anew while nobody uses it, else left
//! wanted, overlaps something of the host   the instance fails and says with what
//! ours, wanted by none, on no container    RemoveNetwork
//! ```
//!
//! Invariant: a network without our cluster's and node's labels is never removed.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use knit_rpc::message::{NetworkDriver, NetworkSpec};

use crate::container::{self, BRIDGE, Identity, NETWORK};
use crate::desired::{Desired, Owner, Wanted};
use crate::observed::{Container, Observed};

/// On a network: which one it is, `PROJECT/NAME`.
pub const LABEL_NETWORK: &str = "knit.network";

/// A network of the engine's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// The interface of a bridge network.
    pub bridge: Option<String>,
    pub subnets: BTreeSet<Ipv4Net>,
    pub internal: bool,
}

/// A network that the host has an address in, or a route to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub network: Ipv4Net,
    pub interface: String,
}

/// A bridge network to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Docker's.
    pub name: String,
    /// Its interface; Docker names it when absent.
    pub bridge: Option<String>,
    /// Docker chooses one when absent.
    pub subnet: Option<Ipv4Net>,
    pub internal: bool,
    pub labels: BTreeMap<String, String>,
}

impl NetworkPlan {
    /// The node's own network.
    pub fn own(owner: &Owner, subnet: Ipv4Net) -> Self {
        Self {
            name: NETWORK.to_owned(),
            bridge: Some(BRIDGE.to_owned()),
            subnet: Some(subnet),
            internal: false,
            labels: container::owner_labels(owner),
        }
    }

    /// A network that users named.
    pub fn of(owner: &Owner, spec: &NetworkSpec) -> Self {
        let mut labels = container::owner_labels(owner);
        labels.insert(LABEL_NETWORK.to_owned(), format!("{}/{}", spec.project, spec.name));
        Self {
            name: spec.docker_name(),
            bridge: None,
            subnet: spec.subnet,
            internal: spec.internal,
            labels,
        }
    }

    /// Whether a network of the engine's is this one, as it should be.
    pub fn is(&self, network: &Network) -> bool {
        network.name == self.name
            && self.labels.iter().all(|(key, value)| network.labels.get(key) == Some(value))
            && self.subnet.is_none_or(|subnet| network.subnets.contains(&subnet))
            && network.internal == self.internal
    }
}

/// Our networks that an instance joins, to be made if they are missing.
pub(crate) fn joined<'a>(
    wanted: &'a Wanted,
    desired: &'a Desired,
) -> impl Iterator<Item = &'a NetworkSpec> {
    let networks = wanted.spec.networks.iter().filter_map(|name| desired.networks.get(name));
    networks.filter(|network| network.driver == NetworkDriver::Bridge)
}

/// What the instance's networks would overlap, in a sentence.
pub(crate) fn obstacle(
    wanted: &Wanted,
    desired: &Desired,
    observed: &Observed,
    ours: &[(Identity, &Container)],
) -> Option<String> {
    joined(wanted, desired).find_map(|network| {
        let plan = NetworkPlan::of(&desired.owner, network);
        let is_here = observed.networks.iter().any(|one| plan.is(one));
        if is_here || is_used(&plan.name, desired, ours) {
            return None;
        }
        overlap(network, &plan.name, observed)
    })
}

fn overlap(network: &NetworkSpec, name: &str, observed: &Observed) -> Option<String> {
    let subnet = network.subnet?;
    let clashes = |other: &Ipv4Net| subnet.contains(other) || other.contains(&subnet);
    let of_docker = observed.networks.iter().filter(|one| one.name != name).find_map(|one| {
        let other = one.subnets.iter().find(|other| clashes(other))?;
        Some(format!("{other} of the Docker network \"{}\"", one.name))
    });
    // A network that is to be made anew is not in its own way.
    let own = observed.networks.iter().find(|one| one.name == name);
    let bridge = own.and_then(|own| own.bridge.as_ref());
    let of_host = || {
        let others = observed.routes.iter().filter(|route| Some(&route.interface) != bridge);
        let route = others.into_iter().find(|route| clashes(&route.network))?;
        Some(format!("{} of {}", route.network, route.interface))
    };
    let other = of_docker.or_else(of_host)?;
    Some(format!("network {}: {subnet} overlaps {other}", network.name))
}

/// Whether a container is on it, or one that is to be started again was made for it.
fn is_used(name: &str, desired: &Desired, ours: &[(Identity, &Container)]) -> bool {
    ours.iter().any(|(identity, container)| {
        let wanted = desired.instances.get(&identity.instance);
        container.networks.contains(name)
            || wanted.is_some_and(|wanted| wanted.spec.networks.iter().any(|one| one == name))
    })
}

/// Our networks that nobody needs any more, by Docker's names.
pub(crate) fn to_remove(
    desired: &Desired,
    observed: &Observed,
    ours: &[(Identity, &Container)],
) -> BTreeSet<String> {
    let owned = container::owner_labels(&desired.owner);
    let is_ours = |network: &&Network| {
        network.name != NETWORK
            && network.labels.contains_key(LABEL_NETWORK)
            && owned.iter().all(|(key, value)| network.labels.get(key) == Some(value))
    };
    let is_joined = |network: &&Network| {
        let mut wanted = desired.instances.values();
        wanted.any(|one| one.spec.networks.contains(&network.name))
            || is_used(&network.name, desired, ours)
    };
    let unused = observed.networks.iter().filter(is_ours).filter(|network| !is_joined(network));
    unused.map(|network| network.name.clone()).collect()
}
