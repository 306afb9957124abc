//! Values as columns, for all commands that show them.

mod rollout;

use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::api::{
    Availability, DeploymentState, DeploymentView, InstanceView, NodeState, NodeView,
};
use knit_rpc::message::{Phase, PullProgress};
use knit_runtime::terminal::Colour;
use knit_runtime::terminal::printable;
use knit_runtime::terminal::table::{Cell, Table};

pub(super) use rollout::{rollout, rollout_colour, rollout_line};

pub(super) fn deployments(deployments: &[DeploymentView], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .wide_column("project")
        .column("deployment")
        .column("state")
        .column("running")
        .column("revision")
        .column("image")
        .column("changed");
    let now = knit_runtime::clock::now();
    for deployment in deployments {
        table.row([
            Cell::from(deployment.project.as_str()),
            deployment.name.as_str().into(),
            Cell::coloured(deployment_colour(deployment.state), deployment.state.as_str()),
            format!("{}/{}", deployment.running, deployment.replicas).into(),
            deployment.revision.to_string().into(),
            deployment.image.as_str().into(),
            ago(now, deployment.updated_at).into(),
        ]);
    }
    table
}

pub(super) fn instances(instances: &[InstanceView], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .column("instance")
        .column("state")
        .column("node")
        .column("mesh address")
        .column("ports")
        .wide_column("revision")
        .wide_column("container")
        .wide_column("container ip")
        .wide_column("restarts")
        .wide_column("id")
        .column("message");
    for instance in instances {
        let ports: Vec<String> = instance.ports.iter().map(ToString::to_string).collect();
        let container = instance.container.as_deref().unwrap_or_default();
        table.row([
            Cell::from(instance_name(instance)),
            Cell::coloured(phase_colour(instance.phase), instance.phase.as_str()),
            instance.node_name.as_str().into(),
            text(instance.mesh_ip),
            ports.join(", ").into(),
            instance.revision.to_string().into(),
            container.get(..12).unwrap_or(container).into(),
            text(instance.address),
            instance.restarts.to_string().into(),
            instance.id.as_str().into(),
            condition(instance).into(),
        ]);
    }
    table
}

pub(super) fn nodes(nodes: &[NodeView], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .column("node")
        .column("state")
        .column("use")
        .column("mesh address")
        .column("instances")
        .column("labels")
        .wide_column("docker")
        .wide_column("cpus")
        .wide_column("memory")
        .wide_column("subnet")
        .wide_column("agent")
        .wide_column("id")
        .column("message");
    for node in nodes {
        let labels: Vec<String> =
            node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.row([
            Cell::from(&node.name),
            Cell::coloured(node_colour(node.state), node.state.as_str()),
            availability(node),
            text(node.mesh_ip),
            node.instances.to_string().into(),
            labels.join(",").into(),
            node.docker.as_deref().unwrap_or_default().into(),
            node.cpus.to_string().into(),
            size(node.memory).into(),
            text(node.subnet),
            node.agent_version.as_str().into(),
            text(node.id.as_ref()),
            node.message.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

/// Active is what most nodes are, and no news.
fn availability(node: &NodeView) -> Cell {
    match (node.availability, &node.id) {
        (_, None) => "".into(),
        (Availability::Active, _) => Availability::Active.as_str().into(),
        (other @ (Availability::Cordoned | Availability::Draining), _) => {
            Cell::coloured(Colour::Yellow, other.as_str())
        }
    }
}

/// What an instance's state does not say by itself: how often, how far, why.
fn condition(instance: &InstanceView) -> String {
    let again = matches!(instance.phase, Phase::CrashLoop | Phase::Restarting);
    let restarts = match instance.restarts {
        _ if !again => None,
        1 => Some("1 restart".to_owned()),
        count => Some(format!("{count} restarts")),
    };
    let pulled = instance.pull.filter(|_| instance.phase == Phase::Pulling).and_then(|pull| {
        let percent = pull_percent(pull)?;
        Some(format!("pulled {} of {} ({percent}%)", size(pull.done), size(pull.total)))
    });
    let parts = [restarts, pulled, instance.message.clone()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// How far a pull is; none before its size is known.
pub(super) fn pull_percent(pull: PullProgress) -> Option<u64> {
    (pull.done.min(pull.total) * 100).checked_div(pull.total)
}

/// Bytes for people: `512 MiB`, `1.5 GiB`.
pub(super) fn size(bytes: u64) -> String {
    let (unit, factor) = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        .into_iter()
        .find(|(_, factor)| bytes >= *factor)
        .unwrap_or(("B", 1));
    match bytes % factor * 10 / factor {
        0 => format!("{} {unit}", bytes / factor),
        tenths => format!("{}.{tenths} {unit}", bytes / factor),
    }
}

/// The last lines of a log, set apart from what Knit says.
pub(super) fn log_lines(log: &[String]) -> String {
    log.iter().map(|line| format!("  | {}\n", printable(line))).collect::<Vec<_>>().concat()
}

/// `web.0`, with its project unless that is the default one.
pub(super) fn instance_name(instance: &InstanceView) -> String {
    format!("{}.{}", instance.deployment, instance.slot)
}

/// The same moment for people: `12 s ago`.
pub(super) fn ago(now: Timestamp, then: Timestamp) -> String {
    format!("{} ago", rough(now.since(then)))
}

/// A length of time for people: `12 s`, `3 days`.
pub(super) fn rough(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn text(value: Option<impl ToString>) -> Cell {
    value.map(|value| value.to_string()).unwrap_or_default().into()
}

fn deployment_colour(state: DeploymentState) -> Colour {
    match state {
        DeploymentState::Running => Colour::Green,
        DeploymentState::Stopped => Colour::Dim,
        DeploymentState::Deploying | DeploymentState::Removing | DeploymentState::Paused => {
            Colour::Yellow
        }
        DeploymentState::Unplaced | DeploymentState::Failed | DeploymentState::Degraded => {
            Colour::Red
        }
    }
}

pub(super) fn phase_colour(phase: Phase) -> Colour {
    match phase {
        Phase::Running => Colour::Green,
        Phase::Pending | Phase::Pulling | Phase::Starting | Phase::Stopping => Colour::Yellow,
        Phase::Unready | Phase::Restarting | Phase::CrashLoop | Phase::Failed => Colour::Red,
    }
}

fn node_colour(state: NodeState) -> Colour {
    match state {
        NodeState::Ready => Colour::Green,
        NodeState::Discovered | NodeState::Joining => Colour::Dim,
        NodeState::Stale | NodeState::NotReady | NodeState::Pending => Colour::Yellow,
        NodeState::Unreachable | NodeState::Lost | NodeState::Duplicate => Colour::Red,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_down_to_one_digit() {
        for (bytes, shown) in
            [(0, "0 B"), (1023, "1023 B"), (512 << 20, "512 MiB"), ((3 << 29) + 7, "1.5 GiB")]
        {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn durations_are_rough() {
        let cases =
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 days")];
        for (seconds, shown) in cases {
            assert_eq!(rough(Duration::from_secs(seconds)), shown);
        }
    }
}
