//! `knit node`: nodes, and what they are there for.

mod add;
mod drain;
mod find;
mod join;
mod script;

use std::fmt::Write as _;
use std::process::ExitCode;

use knit_rpc::Timestamp;
use knit_rpc::api::{Availability, NodePatch, NodeRemoved, NodeView};
use knit_rpc::spec::Cpus;
use knit_runtime::terminal::{self, eprintln, printable};

pub(super) use find::find;

use super::show::{self, ago, size};
use crate::cli::{LabelArgs, NodeArgs, NodeCommand, RemoveNodeArgs, ShowArgs, ShowNodeArgs};
use crate::server;

pub(super) async fn run(command: NodeCommand) -> anyhow::Result<ExitCode> {
    match command {
        NodeCommand::Ls(args) => list(args).await,
        NodeCommand::Show(args) => show_one(args).await,
        NodeCommand::Drain(args) => drain::run(args).await,
        NodeCommand::Undrain(args) | NodeCommand::Uncordon(args) => {
            set(args, Availability::Active).await
        }
        NodeCommand::Cordon(args) => set(args, Availability::Cordoned).await,
        NodeCommand::Label(args) => label(args).await,
        NodeCommand::Rm(args) => remove(args).await,
        NodeCommand::Add(args) => Box::pin(add::run(*args)).await,
        NodeCommand::Script => script::run(),
        NodeCommand::Token(args) => join::token(args).await,
        NodeCommand::Approve(args) => join::approve(args).await,
        NodeCommand::Reject(args) => join::reject(args).await,
    }
}

pub(super) async fn list(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.server).await?;
    let nodes = client.nodes().await?;
    terminal::print_rows(args.output, &nodes, |node| node.name.clone(), show::nodes)?;
    Ok(ExitCode::SUCCESS)
}

async fn show_one(args: ShowNodeArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.show.server).await?;
    let (_, id) = find(&client, &args.node).await?;
    let node = client.node(&id).await?;
    let now = knit_runtime::clock::now();
    let text = |node: &NodeView, _: bool| details(node, now);
    terminal::print_value(args.show.output, &node, |node| node.name.clone(), text)?;
    Ok(ExitCode::SUCCESS)
}

async fn set(args: NodeArgs, availability: Availability) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.server).await?;
    let (name, id) = find(&client, &args.node).await?;
    let patch = NodePatch { availability: Some(availability), ..NodePatch::default() };
    client.patch_node(&id, &patch).await?;
    let name = printable(&name);
    eprintln(&match availability {
        Availability::Active => format!("{name} is in use: it gets new instances again"),
        Availability::Cordoned => format!("{name} gets nothing new; what it runs stays"),
        Availability::Draining => format!("{name} gets nothing new, and what it runs moves away"),
    });
    Ok(ExitCode::SUCCESS)
}

async fn label(args: LabelArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.server).await?;
    let (name, id) = find(&client, &args.node).await?;
    let patch = NodePatch { labels: args.labels.into_iter().collect(), availability: None };
    let node = client.patch_node(&id, &patch).await?;
    eprintln(&format!("labels of {}: {}", printable(&name), printable(&labels(&node))));
    Ok(ExitCode::SUCCESS)
}

fn labels(node: &NodeView) -> String {
    if node.labels.is_empty() {
        return "none".to_owned();
    }
    let labels = node.labels.iter().map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(", ")
}

async fn remove(args: RemoveNodeArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.server).await?;
    let (name, id) = find(&client, &args.node).await?;
    let removed = client.remove_node(&id, args.force).await?;
    say_removed(&name, &removed);
    Ok(ExitCode::SUCCESS)
}

/// Says that a node is out, and whether NATS refuses it already.
fn say_removed(name: &str, removed: &NodeRemoved) {
    let name = printable(name);
    match &removed.message {
        None if removed.cut_off => eprintln(&format!("{name} is forgotten and cut off")),
        None => eprintln(&format!("{name} is forgotten")),
        Some(why) => eprintln(&format!("{name} is forgotten; {}", printable(why))),
    }
}

/// One line for each thing that is known.
fn details(node: &NodeView, now: Timestamp) -> String {
    let text = |value: Option<String>| value.filter(|text| !text.is_empty());
    let reserved = Cpus::from_millis(u32::try_from(node.reserved.cpu_millis).unwrap_or(u32::MAX));
    let of = |part: u64, whole: u64| format!("{} of {}", size(part), size(whole));
    let known = node.id.is_some();
    let rows = [
        ("id", node.id.as_ref().map(ToString::to_string)),
        ("state", Some(node.state.as_str().to_owned())),
        ("why", node.message.clone()),
        ("use", known.then(|| node.availability.as_str().to_owned())),
        ("server", node.server.then(|| "runs here".to_owned())),
        ("mesh address", node.mesh_ip.map(|ip| ip.to_string())),
        ("endpoint", node.endpoint.clone()),
        ("containers in", node.subnet.map(|net| net.to_string())),
        ("labels", known.then(|| labels(node))),
        ("instances", known.then(|| node.instances.to_string())),
        (
            "cpus",
            known.then(|| {
                let busy = node.usage.cpu_percent;
                format!("{}, {reserved} reserved, {busy}% busy", node.cpus)
            }),
        ),
        ("memory reserved", known.then(|| of(node.reserved.memory, node.memory))),
        ("memory used", known.then(|| of(node.usage.memory, node.memory))),
        ("disk reserved", known.then(|| of(node.reserved.disk, node.disk))),
        ("disk used", known.then(|| of(node.usage.disk, node.disk))),
        ("arch", text(Some(node.arch.clone()))),
        ("kernel", text(Some(node.kernel.clone()))),
        ("docker", node.docker.clone()),
        ("agent", text(Some(node.agent_version.clone()))),
        ("heard", node.last_heartbeat.map(|at| ago(now, at))),
        ("heard by mesh", node.mesh_last_seen.map(|at| ago(now, at))),
        ("rebooted", node.rebooted_at.map(|at| ago(now, at))),
    ];
    let mut out = format!("{}\n", printable(&node.name));
    for (key, value) in rows.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        let _ = writeln!(out, "  {key:<16} {}", printable(&value));
    }
    for sentence in &node.draining {
        let _ = writeln!(out, "  still here: {}", printable(sentence));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing;

    #[test]
    fn one_node_shows_what_it_has_and_what_is_taken() {
        let mut node = testing::node("fra-1");
        node.memory = 4 << 30;
        node.reserved.memory = 512 << 20;
        node.reserved.cpu_millis = 1500;
        node.draining = vec!["db.0 stays with its volume data".to_owned()];
        let text = details(&node, testing::NOW);
        for line in [
            "  cpus             4, 1.5 reserved, 0% busy\n",
            "  memory reserved  512 MiB of 4 GiB\n",
            "  labels           none\n",
            "  still here: db.0 stays with its volume data\n",
        ] {
            assert!(text.contains(line), "{line:?} is missing in {text}");
        }
        assert!(!text.contains("rebooted"), "{text}");
    }

    #[test]
    fn a_mere_peer_shows_only_what_the_mesh_knows() {
        let mut node = testing::node("10.45.0.9");
        node.id = None;
        let text = details(&node, testing::NOW);
        assert!(!text.contains("memory") && !text.contains("labels"), "{text}");
    }
}
