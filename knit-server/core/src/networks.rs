//! Networks that users make: what is wrong with one, who uses it, where it is.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;
use knit_rpc::api::NetworkView;
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_rpc::message::{NetworkDriver, NetworkSpec};
use knit_rpc::spec::DeploymentSpec;

use crate::snapshot::{Deployment, Network, Snapshot};

/// Names that mean something else.
const RESERVED: [&str; 4] = ["host", "none", "knit", "bridge"];
/// The largest and the smallest network that containers can share, as prefix lengths.
const PREFIX_MIN: u8 = 8;
const PREFIX_MAX: u8 = 29;

/// Every problem of a network by itself: field and sentence.
pub fn problems(spec: &NetworkSpec) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if RESERVED.contains(&spec.name.as_str()) {
        found.push(("name", format!("{} is Docker's or Knit's own network", spec.name)));
    } else if DeploymentName::parse(spec.name.as_str()).is_err() {
        let rule = "must be 1 to 63 lower-case letters, digits and \"-\", which may not stand at \
                    its ends";
        found.push(("name", rule.to_owned()));
    }
    if let Some(subnet) = spec.subnet {
        found.extend(subnet_problem(subnet).map(|problem| ("subnet", problem)));
    }
    if spec.driver == NetworkDriver::Host && (spec.subnet.is_some() || spec.internal) {
        let rule = "is the node's own network: it has neither a subnet of its own nor an inside";
        found.push(("driver", rule.to_owned()));
    }
    found
}

fn subnet_problem(subnet: Ipv4Net) -> Option<String> {
    let address = subnet.network();
    if subnet.addr() != address {
        return Some(format!("{subnet} is an address within {}: write that", subnet.trunc()));
    }
    if !(PREFIX_MIN..=PREFIX_MAX).contains(&subnet.prefix_len()) {
        return Some(format!("must be of /{PREFIX_MIN} to /{PREFIX_MAX}, not {subnet}"));
    }
    let impossible = address.is_loopback()
        || address.is_multicast()
        || address.is_link_local()
        || address.octets()[0] == 0
        || address.octets()[0] >= 240;
    impossible.then(|| format!("{subnet} holds no addresses that containers can have"))
}

/// The sentence for a subnet that is in use already: `own` are the cluster's networks by what they
/// are.
pub fn clash(snapshot: &Snapshot, spec: &NetworkSpec, own: &[(String, Ipv4Net)]) -> Option<String> {
    let subnet = spec.subnet?;
    let overlaps = |other: &Ipv4Net| subnet.contains(other) || other.contains(&subnet);
    let others = snapshot.networks.values().filter_map(|other| {
        let name = format!("network {} of project {}", other.spec.name, other.spec.project);
        Some((name, other.spec.subnet?))
    });
    let nodes = snapshot
        .nodes
        .values()
        .filter_map(|node| Some((format!("the containers of node {}", node.name()), node.subnet?)));
    let mut taken = own.iter().cloned().chain(others).chain(nodes);
    let (whose, other) = taken.find(|(_, other)| overlaps(other))?;
    Some(format!("subnet {subnet} overlaps {other}, which is for {whose}"))
}

/// A network as it is shown.
pub fn view(snapshot: &Snapshot, network: &Network) -> NetworkView {
    let users = users(snapshot, &network.spec);
    let nodes: BTreeSet<String> = users
        .iter()
        .flat_map(|user| snapshot.instances.of_deployment(&user.id))
        .filter(|instance| {
            let spec = snapshot.spec_of(instance);
            spec.is_some_and(|spec| spec.networks.contains(&network.spec.name))
        })
        .map(|instance| {
            let node = snapshot.nodes.get(&instance.node);
            node.map_or_else(|| instance.node.to_string(), |node| node.name().to_owned())
        })
        .collect();
    NetworkView {
        network: network.spec.clone(),
        used_by: users.iter().map(|user| user.spec.name.to_string()).collect(),
        nodes: nodes.into_iter().collect(),
        created_at: network.created_at,
    }
}

/// The deployments that name a network, at their newest revision or one that they may go back to
/// by themselves.
pub fn users<'a>(snapshot: &'a Snapshot, network: &NetworkSpec) -> Vec<&'a Deployment> {
    let names = |spec: &DeploymentSpec| {
        spec.project == network.project && spec.instance.networks.contains(&network.name)
    };
    let mut found: Vec<&Deployment> = snapshot
        .deployments
        .values()
        .filter(|deployment| deployment.removed_at.is_none())
        .filter(|deployment| {
            let stable = deployment.stable.and_then(|stable| deployment.revisions.get(&stable));
            names(&deployment.spec) || stable.is_some_and(|stable| names(&stable.spec))
        })
        .collect();
    found.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    found
}

/// The spec with the names of networks that are the node's own replaced by `host`, so that every
/// rule about the host's network holds for it.
pub fn resolve(snapshot: &Snapshot, mut spec: DeploymentSpec) -> DeploymentSpec {
    let project: ProjectName = spec.project.clone();
    let is_host = |name: &String| {
        let known = snapshot.networks.get(&(project.clone(), name.clone()));
        known.is_some_and(|network| network.spec.driver == NetworkDriver::Host)
    };
    let networks = &mut spec.instance.networks;
    if networks.iter().any(is_host) {
        for name in networks.iter_mut().filter(|name| is_host(name)) {
            "host".clone_into(name);
        }
        let mut seen = BTreeSet::new();
        networks.retain(|name| seen.insert(name.clone()));
    }
    spec
}

#[cfg(test)]
mod tests {
    use knit_rpc::spec::InstanceSpec;

    use super::*;
    use crate::testing::*;

    fn spec(name: &str, subnet: Option<&str>) -> NetworkSpec {
        NetworkSpec {
            project: ProjectName::default(),
            name: name.to_owned(),
            driver: NetworkDriver::Bridge,
            subnet: subnet.map(|text| text.parse().unwrap()),
            internal: false,
        }
    }

    fn have(snapshot: &mut Snapshot, spec: NetworkSpec) {
        let key = (spec.project.clone(), spec.name.clone());
        snapshot.networks.insert(key, Network { spec, created_at: NOW });
    }

    fn on(networks: &[&str]) -> InstanceSpec {
        let networks = networks.iter().map(|name| (*name).to_owned()).collect();
        InstanceSpec { networks, ..instance_spec("a") }
    }

    #[test]
    fn what_is_wrong_with_a_network_is_told_by_field() {
        let host = NetworkSpec { driver: NetworkDriver::Host, ..spec("lan", None) };
        for (network, field, sentence) in [
            (spec("back", None), "", ""),
            (spec("back", Some("10.9.0.0/24")), "", ""),
            (spec("back", Some("100.64.0.0/16")), "", ""),
            (host.clone(), "", ""),
            (spec("host", None), "name", "own network"),
            (spec("bridge", None), "name", "own network"),
            (spec("Back_End", None), "name", "lower-case"),
            (spec("", None), "name", "1 to 63"),
            (spec("a", Some("10.9.0.7/24")), "subnet", "within 10.9.0.0/24"),
            (spec("a", Some("10.9.0.0/30")), "subnet", "/8 to /29"),
            (spec("a", Some("0.0.0.0/0")), "subnet", "/8 to /29"),
            (spec("a", Some("127.1.0.0/16")), "subnet", "no addresses"),
            (spec("a", Some("224.0.0.0/8")), "subnet", "no addresses"),
            (spec("a", Some("169.254.0.0/16")), "subnet", "no addresses"),
            (NetworkSpec { internal: true, ..host }, "driver", "node's own network"),
        ] {
            let found = problems(&network);
            let told: Vec<&str> = found.iter().map(|(field, _)| *field).collect();
            let expected: &[&str] = if field.is_empty() { &[] } else { &[field] };
            assert_eq!(told, expected, "{network:?}");
            assert!(found.iter().all(|(_, told)| told.contains(sentence)), "{found:?}");
        }
    }

    #[test]
    fn a_subnet_that_is_in_use_is_refused_with_whose_it_is() {
        let mut snapshot = cluster(1);
        node_mut(&mut snapshot, 1).subnet = Some("10.208.0.0/24".parse().unwrap());
        have(&mut snapshot, spec("back", Some("10.9.0.0/24")));
        have(&mut snapshot, spec("any", None));
        let own = [("the mesh".to_owned(), "10.45.0.0/16".parse().unwrap())];
        for (subnet, whose) in [
            (None, None),
            (Some("10.9.1.0/24"), None),
            (Some("10.9.0.0/25"), Some("network back of project default")),
            (Some("10.0.0.0/8"), Some("the mesh")),
            (Some("10.208.0.0/16"), Some("the containers of node n1")),
        ] {
            let told = clash(&snapshot, &spec("new", subnet), &own);
            assert_eq!(told.is_some(), whose.is_some(), "{subnet:?} {told:?}");
            assert!(whose.is_none_or(|whose| told.unwrap().contains(whose)), "{subnet:?}");
        }
    }

    #[test]
    fn who_names_a_network_and_where_it_is_needed_is_shown() {
        let mut snapshot = cluster(2);
        have(&mut snapshot, spec("back", None));
        deploy(&mut snapshot, 1, 2, on(&["back"]));
        deploy(&mut snapshot, 2, 1, on(&["other"]));
        settle(&mut snapshot, NOW);
        let network = snapshot.networks.values().next().unwrap();
        let shown = view(&snapshot, network);
        assert_eq!(
            (shown.used_by, shown.nodes),
            (vec!["d1".into()], vec!["n1".into(), "n2".into()])
        );
    }

    #[test]
    fn a_network_that_is_the_nodes_own_is_the_hosts() {
        let mut snapshot = cluster(1);
        have(&mut snapshot, NetworkSpec { driver: NetworkDriver::Host, ..spec("lan", None) });
        for (named, meant) in [
            (&["lan"][..], &["host"][..]),
            (&["lan", "host"], &["host"]),
            (&["back"], &["back"]),
            (&[], &[]),
        ] {
            let name = DeploymentName::parse("web").unwrap();
            let resolved = resolve(&snapshot, DeploymentSpec::new(name, on(named)));
            assert_eq!(resolved.instance.networks, meant, "{named:?}");
        }
    }
}
