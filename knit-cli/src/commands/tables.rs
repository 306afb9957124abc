//! How deployments, instances and nodes look as tables.

use knit_rpc::Timestamp;
use knit_rpc::api::{DeploymentState, DeploymentView, InstanceView, NodeState, NodeView};
use knit_rpc::message::Phase;
use knit_rpc::spec::{HostIp, PortSpec};
use knit_runtime::terminal::Colour;
use knit_runtime::terminal::table::{Cell, Table};

/// Deployments, one a row.
pub(super) fn deployments(views: &[DeploymentView], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .wide_column("project")
        .column("name")
        .column("revision")
        .column("running")
        .column("state")
        .column("image")
        .wide_column("updated");
    for view in views {
        table.row([
            Cell::from(view.project.as_str()),
            view.name.as_str().into(),
            view.revision.to_string().into(),
            format!("{}/{}", view.running, view.replicas).into(),
            Cell::coloured(deployment_colour(view.state), view.state.as_str()),
            view.image.as_str().into(),
            when(Some(view.updated_at)).into(),
        ]);
    }
    table
}

/// Instances, one a row.
pub(super) fn instances(views: &[InstanceView], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .wide_column("project")
        .column("instance")
        .column("node")
        .column("state")
        .column("published")
        .column("revision")
        .column("restarts")
        .column("since")
        .wide_column("address")
        .wide_column("id")
        .wide_column("container");
    for view in views {
        let container: String = view.container.iter().flat_map(|id| id.chars().take(12)).collect();
        table.row([
            Cell::from(view.project.as_str()),
            format!("{}.{}", view.deployment, view.slot).into(),
            view.node_name.as_str().into(),
            Cell::coloured(phase_colour(view.phase), view.phase.as_str()),
            published(view).into(),
            view.revision.to_string().into(),
            view.restarts.to_string().into(),
            when(view.started_at).into(),
            view.address.map(|address| address.to_string()).unwrap_or_default().into(),
            view.id.as_str().into(),
            container.into(),
        ]);
    }
    table
}

/// Nodes as the server knows them, one a row.
pub(super) fn nodes(views: &[NodeView], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .column("name")
        .column("state")
        .column("mesh address")
        .column("instances")
        .column("heartbeat")
        .column("docker")
        .column("labels")
        .wide_column("containers")
        .wide_column("arch")
        .wide_column("cpus")
        .wide_column("memory")
        .wide_column("agent")
        .wide_column("id");
    for view in views {
        let labels: Vec<String> =
            view.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let name =
            if view.server { format!("{} (server)", view.name) } else { view.name.clone() };
        table.row([
            Cell::from(name),
            Cell::coloured(node_colour(view.state), view.state.as_str()),
            view.mesh_ip.map(|address| address.to_string()).unwrap_or_default().into(),
            view.instances.to_string().into(),
            when(view.last_heartbeat).into(),
            view.docker.clone().unwrap_or_default().into(),
            labels.join(",").into(),
            view.subnet.map(|subnet| subnet.to_string()).unwrap_or_default().into(),
            view.arch.as_str().into(),
            view.cpus.to_string().into(),
            format!("{} MiB", view.memory / (1024 * 1024)).into(),
            view.agent_version.as_str().into(),
            view.id.as_ref().map(ToString::to_string).unwrap_or_default().into(),
        ]);
    }
    table
}

/// Where the instance answers, one text per port.
fn published(view: &InstanceView) -> String {
    let one = |port: &PortSpec| {
        let address = match (&port.host_ip, view.mesh_ip) {
            (HostIp::Mesh, Some(address)) => address.to_string(),
            (HostIp::Loopback, _) => "127.0.0.1".to_owned(),
            (host_ip, _) => host_ip.to_string(),
        };
        format!("{address}:{}/{}", port.host_port, port.protocol)
    };
    view.ports.iter().map(one).collect::<Vec<_>>().join(",")
}

/// How long ago, in the largest unit that fits.
fn when(at: Option<Timestamp>) -> String {
    let Some(at) = at else { return String::new() };
    let secs = knit_runtime::clock::now().since(at).as_secs();
    match secs {
        0..60 => format!("{secs}s ago"),
        60..3600 => format!("{}m ago", secs / 60),
        3600..86_400 => format!("{}h ago", secs / 3600),
        _ => format!("{}d ago", secs / 86_400),
    }
}

fn deployment_colour(state: DeploymentState) -> Colour {
    match state {
        DeploymentState::Running => Colour::Green,
        DeploymentState::Deploying | DeploymentState::Removing => Colour::Yellow,
        DeploymentState::Unplaced | DeploymentState::Failed => Colour::Red,
    }
}

fn phase_colour(phase: Phase) -> Colour {
    match phase {
        Phase::Running => Colour::Green,
        Phase::Pending | Phase::Pulling | Phase::Starting => Colour::Yellow,
        Phase::Restarting | Phase::Failed => Colour::Red,
        Phase::Stopping => Colour::Dim,
    }
}

fn node_colour(state: NodeState) -> Colour {
    match state {
        NodeState::Ready => Colour::Green,
        NodeState::Joining | NodeState::Stale | NodeState::Discovered => Colour::Yellow,
        NodeState::NotReady | NodeState::Unreachable | NodeState::Lost | NodeState::Duplicate => {
            Colour::Red
        }
    }
}
