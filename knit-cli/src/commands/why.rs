//! `knit why` and `knit why-not`: the planner's reasons.

use std::fmt::Write as _;
use std::process::ExitCode;

use knit_rpc::api::{WhyNot, WhySlot, WhyView};
use knit_runtime::terminal::{self, Colour, colour, printable};

use super::node;
use crate::cli::{WhyArgs, WhyNotArgs};
use crate::server;

pub(super) async fn why(args: WhyArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.show.server).await?;
    let (name, slot) = &args.name;
    let view = client.why(&args.project, name, *slot).await?;
    let name = name.as_str();
    terminal::print_value(
        args.show.output,
        &view,
        |view| {
            let nodes = view.slots.iter().filter_map(|slot| slot.node.clone());
            nodes.collect::<Vec<_>>().join(",")
        },
        |view, wide| reasons(name, view, wide || slot.is_some()),
    )?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn why_not(args: WhyNotArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.show.server).await?;
    let (_, node) = node::find(&client, &args.node).await?;
    let name = &args.name.name;
    let view = client.why_not(&args.name.project, name, &node).await?;
    terminal::print_value(
        args.show.output,
        &view,
        |view| view.node.clone(),
        |view, _| obstacles(name.as_str(), view),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Why each slot is where it is; with `all`, also what speaks against the other nodes of one that
/// has a place.
fn reasons(name: &str, view: &WhyView, all: bool) -> String {
    if view.slots.is_empty() {
        return format!("{name} has no slots\n");
    }
    let mut text = String::new();
    for slot in &view.slots {
        text.push_str(&head(name, slot));
        for sentence in &slot.because {
            let _ = writeln!(text, "  {}", printable(sentence));
        }
        if all || slot.node.is_none() {
            for other in &slot.others {
                let _ = writeln!(text, "  {}", against(other));
            }
        }
    }
    if !all && view.slots.iter().any(|slot| slot.node.is_some() && !slot.others.is_empty()) {
        let _ = writeln!(text, "`knit why {name}.SLOT` tells of the other nodes too");
    }
    text
}

fn head(name: &str, slot: &WhySlot) -> String {
    let name = format!("{name}.{}", slot.slot);
    match &slot.node {
        Some(node) => format!("{} is on {}\n", colour(Colour::Bold, &name), printable(node)),
        None => format!("{} {}\n", colour(Colour::Bold, &name), colour(Colour::Red, "has no node")),
    }
}

/// One node and all that speaks against it, in one line.
fn against(other: &WhyNot) -> String {
    let nearest = other.nearest.as_deref().map(printable);
    if other.reasons.is_empty() {
        let better = nearest.unwrap_or_else(|| "another node was better".to_owned());
        return format!("{}: could run it; {better}", printable(&other.node));
    }
    let reasons: Vec<String> = other.reasons.iter().map(|reason| printable(reason)).collect();
    let nearest = nearest.map(|nearest| format!(" ({nearest})")).unwrap_or_default();
    format!("{}: {}{nearest}", printable(&other.node), reasons.join("; "))
}

fn obstacles(name: &str, view: &WhyNot) -> String {
    let node = printable(&view.node);
    let mut text = if view.reasons.is_empty() {
        format!("{node} could run {name}\n")
    } else {
        format!("{node} cannot run {name}:\n")
    };
    for reason in &view.reasons {
        let _ = writeln!(text, "  {}", printable(reason));
    }
    if let Some(nearest) = &view.nearest {
        let _ = writeln!(text, "{}", printable(nearest));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(node: &str, reasons: &[&str], nearest: Option<&str>) -> WhyNot {
        WhyNot {
            node: node.to_owned(),
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            nearest: nearest.map(str::to_owned),
        }
    }

    #[test]
    fn what_has_no_place_tells_of_every_node_and_what_has_one_only_when_asked() {
        let placed = WhySlot {
            slot: 0,
            node: Some("fra-1".to_owned()),
            because: vec!["it has the image already".to_owned()],
            others: vec![other("fra-2", &[], Some("fra-1 runs fewer of web"))],
        };
        let unplaced = WhySlot {
            slot: 1,
            node: None,
            because: vec!["it waits for 256m of memory".to_owned()],
            others: vec![other("fra-2", &["needs 512m, has 256m", "label gpu is missing"], None)],
        };
        let view = WhyView { slots: vec![placed, unplaced] };
        assert_eq!(
            reasons("web", &view, false),
            "web.0 is on fra-1\n  it has the image already\n\
             web.1 has no node\n  it waits for 256m of memory\n  \
             fra-2: needs 512m, has 256m; label gpu is missing\n\
             `knit why web.SLOT` tells of the other nodes too\n"
        );
        let all = reasons("web", &view, true);
        assert!(all.contains("  fra-2: could run it; fra-1 runs fewer of web\n"), "{all}");
    }

    #[test]
    fn every_obstacle_stands_on_its_own_line() {
        let view =
            other("fra-2", &["label gpu is missing", "needs 2 CPUs, has 1"], Some("1 CPU short"));
        assert_eq!(
            obstacles("web", &view),
            "fra-2 cannot run web:\n  label gpu is missing\n  needs 2 CPUs, has 1\n1 CPU short\n"
        );
        assert_eq!(obstacles("web", &other("n", &[], None)), "n could run web\n");
    }
}
