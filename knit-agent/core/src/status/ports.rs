//! Whether the ports of an instance lead to it, and why not.

use knit_rpc::spec::PortSpec;

use super::{Ours, Situation};
use crate::container::Identity;
use crate::desired::Wanted;
use crate::observed::{Container, Observed};
use crate::publish::{self, Target};

/// Why the ports of an instance that is ready do not lead to it yet. One that is held needs none.
pub(super) fn wait(
    wanted: &Wanted,
    identity: &Identity,
    container: &Container,
    situation: &Situation<'_>,
) -> Option<String> {
    let Situation { ours, observed, .. } = situation;
    // On the host's own network nothing is mapped.
    let address = container.address()?;
    identity.ports.iter().find_map(|port| {
        if wanted.assigned.held {
            let target = Target { address, port: port.container_port };
            return observed.deaf.contains(&target).then(|| deaf(port));
        }
        let keys = publish::host_ports(port, observed);
        keys.iter().find_map(|key| {
            let holder = observed.published.get(key);
            not_led_to(identity, container, port, holder, ours, observed)
        })
    })
}

/// Why a port does not lead to this container or to one that came after it.
fn not_led_to(
    identity: &Identity,
    container: &Container,
    port: &PortSpec,
    holder: Option<&Target>,
    ours: &Ours<'_>,
    observed: &Observed,
) -> Option<String> {
    let Some(holder) = holder else {
        return Some(format!("port {} is not published yet", port.host_port));
    };
    let own = container.address().map(|address| Target { address, port: port.container_port });
    if Some(*holder) == own {
        return None;
    }
    if own.is_some_and(|own| observed.deaf.contains(&own)) {
        return Some(deaf(port));
    }
    let later = ours.values().any(|(other, container)| {
        container.state.is_up()
            && container.address() == Some(holder.address)
            && other.slot() == identity.slot()
            && other.revision >= identity.revision
    });
    (!later).then(|| format!("port {} leads to another instance still", port.host_port))
}

fn deaf(port: &PortSpec) -> String {
    format!(
        "nothing accepts connections on its port {} yet; the former instance keeps port {}",
        port.container_port, port.host_port
    )
}

/// Whether connections to a port come to this container.
pub(super) fn leads_to(port: &PortSpec, container: &Container, observed: &Observed) -> bool {
    let keys = publish::host_ports(port, observed);
    let Some(address) = container.address() else { return false };
    let target = Target { address, port: port.container_port };
    // What Docker publishes itself has no key of ours.
    let by_docker = keys.is_empty() && port.host_ip == knit_rpc::spec::HostIp::Loopback;
    by_docker || keys.iter().any(|key| observed.published.get(key) == Some(&target))
}
