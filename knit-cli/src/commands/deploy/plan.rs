//! `knit deploy --plan-only`: what would happen, slot by slot.

use std::fmt::Write as _;

use knit_rpc::api::{PlanView, SlotAction, SlotPlan, Unplaced};
use knit_rpc::spec::{DeploymentSpec, HostIp};
use knit_runtime::terminal::table::{Cell, Table};
use knit_runtime::terminal::{Colour, colour, printable};

/// The plan for people; `all` shows the slots that stay as they are too.
pub(super) fn render(plan: &PlanView, spec: &DeploymentSpec, all: bool) -> String {
    let mut text = head(plan);
    let kept = |slot: &&SlotPlan| slot.action == SlotAction::Keep;
    let shown: Vec<&SlotPlan> = plan.slots.iter().filter(|slot| all || !kept(slot)).collect();
    if !shown.is_empty() {
        let _ = write!(text, "\n{}", slots(plan.name.as_str(), &shown));
    }
    let hidden = plan.slots.len() - shown.len();
    if hidden > 0 {
        let stay = if hidden == 1 {
            "1 instance stays".to_owned()
        } else {
            format!("{hidden} instances stay")
        };
        let _ = writeln!(text, "\n{stay} as before");
    }
    for Unplaced { slot, summary, reasons } in &plan.unplaced {
        let line = format!("{}.{slot} would have no node: {}", plan.name, printable(summary));
        let _ = writeln!(text, "\n{}", colour(Colour::Red, &line));
        for reason in reasons {
            let _ = writeln!(text, "  {}", printable(reason));
        }
    }
    let notes = notes(plan, spec);
    if !notes.is_empty() {
        text.push('\n');
        text.extend(notes.iter().map(|note| format!("{note}\n")));
    }
    text
}

fn head(plan: &PlanView) -> String {
    let PlanView { name, revision, .. } = plan;
    if plan.changed.is_empty() {
        let keeps = plan.slots.iter().all(|slot| slot.action == SlotAction::Keep);
        return if keeps && !plan.slots.is_empty() {
            format!("{name} would stay as it is, at revision {revision}\n")
        } else {
            format!("{name} would be at revision {revision}\n")
        };
    }
    let mut text = format!("{name} would be at revision {revision}\n");
    let _ = writeln!(text, "changed: {}", plan.changed.join(", "));
    let _ = match plan.recreates.as_slice() {
        [] => writeln!(text, "no container is replaced"),
        [only] => writeln!(text, "new containers, because of: {only}"),
        several => writeln!(text, "new containers, because of: {}", several.join(", ")),
    };
    text
}

fn slots(name: &str, slots: &[&SlotPlan]) -> Table {
    let mut table =
        Table::new(false).column("instance").column("plan").column("node").column("because");
    for slot in slots {
        let (colour, word) = match slot.action {
            SlotAction::Create => (Colour::Green, "create"),
            SlotAction::Replace => (Colour::Yellow, "replace"),
            SlotAction::Keep => (Colour::Dim, "keep"),
            SlotAction::Remove => (Colour::Red, "remove"),
        };
        let node = match (&slot.from, &slot.to) {
            (Some(from), Some(to)) if from != to => format!("{from} -> {to}"),
            (_, Some(node)) => node.clone(),
            (Some(from), None) => from.clone(),
            (None, None) => String::new(),
        };
        table.row([
            Cell::from(format!("{name}.{}", slot.slot)),
            Cell::coloured(colour, word),
            node.into(),
            slot.because.as_deref().unwrap_or_default().into(),
        ]);
    }
    table
}

/// The server's notes; what is open to the whole world stands out, whoever words it.
fn notes(plan: &PlanView, spec: &DeploymentSpec) -> Vec<String> {
    let ports = spec.instance.ports.iter().filter(|port| port.host_ip == HostIp::Public);
    let public: Vec<String> =
        ports.map(|port| format!("port {}/{}", port.host_port, port.protocol)).collect();
    let names_public = |note: &String| public.iter().any(|port| note.contains(port.as_str()));
    let mut lines: Vec<String> = Vec::new();
    for note in &plan.notes {
        let line = format!("note: {}", printable(note));
        lines.push(if names_public(note) { colour(Colour::Red, &line) } else { line });
    }
    for port in public.iter().filter(|port| !plan.notes.iter().any(|note| note.contains(*port))) {
        let line = format!("note: {port} is published on every address of its host");
        lines.push(colour(Colour::Red, &line));
    }
    lines
}

#[cfg(test)]
mod tests {
    use knit_rpc::spec::{Format, parse};

    use super::*;

    fn slot(slot: u32, action: SlotAction, from: Option<&str>, to: Option<&str>) -> SlotPlan {
        let because = to.map(|_| "it runs the fewest of web".to_owned());
        SlotPlan { slot, action, from: from.map(str::to_owned), to: to.map(str::to_owned), because }
    }

    fn plan(
        slots: Vec<SlotPlan>,
        changed: &[&str],
        recreates: &[&str],
    ) -> (PlanView, DeploymentSpec) {
        let spec = "{name: web, image: a, ports: [{container_port: 80, host_ip: public}]}";
        let spec = parse(spec, Format::Yaml).unwrap();
        let texts = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        let plan = PlanView {
            project: spec.project.clone(),
            name: spec.name.clone(),
            revision: 5,
            changed: texts(changed),
            recreates: texts(recreates),
            slots,
            unplaced: Vec::new(),
            notes: Vec::new(),
        };
        (plan, spec)
    }

    #[test]
    fn the_plan_names_the_keys_that_force_new_containers() {
        let slots = vec![
            slot(0, SlotAction::Keep, Some("fra-1"), Some("fra-1")),
            slot(1, SlotAction::Replace, Some("fra-1"), Some("fra-2")),
            slot(2, SlotAction::Create, None, Some("fra-3")),
            slot(3, SlotAction::Remove, Some("fra-3"), None),
        ];
        let (mut plan, spec) = plan(slots, &["image", "replicas"], &["image"]);
        plan.unplaced.push(Unplaced {
            slot: 4,
            summary: "no node has 2 CPUs left".to_owned(),
            reasons: vec!["fra-1: needs 2, has 1".to_owned()],
        });
        let text = render(&plan, &spec, false);
        for part in [
            "web would be at revision 5\nchanged: image, replicas\nnew containers, because of: image\n",
            "web.1     replace  fra-1 -> fra-2  it runs the fewest of web\n",
            "web.3     remove   fra-3           -\n",
            "\n1 instance stays as before\n",
            "web.4 would have no node: no node has 2 CPUs left\n  fra-1: needs 2, has 1\n",
            "note: port 80/tcp is published on every address of its host\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        assert!(!text.contains("web.0"), "{text}");
        assert!(render(&plan, &spec, true).contains("web.0     keep"), "{text}");
    }

    #[test]
    fn a_plan_that_changes_nothing_says_so() {
        let (plan, spec) = plan(vec![slot(0, SlotAction::Keep, Some("n"), Some("n"))], &[], &[]);
        assert!(
            render(&plan, &spec, false).starts_with("web would stay as it is, at revision 5\n")
        );
    }

    #[test]
    fn what_needs_no_new_container_says_so() {
        let (plan, spec) = plan(Vec::new(), &["update"], &[]);
        assert!(
            render(&plan, &spec, false).contains("changed: update\nno container is replaced\n")
        );
    }

    #[test]
    fn a_public_port_is_told_once() {
        let (mut plan, spec) = plan(Vec::new(), &[], &[]);
        plan.notes =
            vec!["port 80/tcp is published on every address of its host: beware".to_owned()];
        assert_eq!(notes(&plan, &spec).len(), 1);
    }
}
