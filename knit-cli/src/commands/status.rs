//! `knit status`: deployments, where their rollouts stand, their instances, and what could not be
//! placed.

use std::fmt::Write as _;
use std::process::ExitCode;

use knit_rpc::api::{DeploymentState, DeploymentView, InstanceView, RolloutView};
use knit_rpc::message::Phase;
use knit_runtime::terminal::{self, Output, printable};

use super::show;
use crate::cli::StatusArgs;
use crate::server;

pub(super) async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let output = args.show.output;
    let (project, name) = (args.project, args.name);
    let client = server::find(&args.show.server).await?;
    let deployments = match &name {
        Some(name) => vec![client.deployment(&project.unwrap_or_default(), name).await?],
        None => client.deployments(project.as_ref()).await?,
    };
    match output {
        Output::Table | Output::Wide => {
            terminal::print(&report(&deployments, name.is_some(), output == Output::Wide))?;
        }
        Output::Json | Output::Yaml | Output::Name if name.is_none() => {
            terminal::print_rows(
                output,
                &deployments,
                |view| view.name.to_string(),
                show::deployments,
            )?;
        }
        // One that was asked for by name is a value, not a list.
        Output::Json => terminal::print_json(&deployments.first())?,
        Output::Yaml => terminal::print_yaml(&deployments.first())?,
        Output::Name => {
            let instances = deployments.iter().flat_map(|deployment| &deployment.instances);
            terminal::print_names(instances.map(show::instance_name))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// With `whole`, all that is known of how they came to be so.
fn report(deployments: &[DeploymentView], whole: bool, wide: bool) -> String {
    if deployments.is_empty() {
        return "nothing is deployed\n".to_owned();
    }
    let mut text = show::deployments(deployments, wide).to_string();
    let rollouts = rollouts(deployments, whole);
    if !rollouts.is_empty() {
        let _ = write!(text, "\n{rollouts}");
    }
    let instances: Vec<InstanceView> =
        deployments.iter().flat_map(|deployment| deployment.instances.clone()).collect();
    if !instances.is_empty() {
        let _ = write!(text, "\n{}", show::instances(&instances, wide));
    }
    text.push_str(&unplaced(deployments));
    if whole {
        text.push_str(&last_lines(&instances));
    }
    text
}

/// What is under way, and of one deployment what was last.
fn rollouts(deployments: &[DeploymentView], whole: bool) -> String {
    let now = knit_runtime::clock::now();
    // One that only watches what runs already is no news among many.
    let told = |deployment: &DeploymentView, rollout: &RolloutView| {
        whole || !rollout.state.is_end() && deployment.state != DeploymentState::Running
    };
    let line = |deployment: &DeploymentView| {
        let rollout = deployment.rollout.as_ref().filter(|rollout| told(deployment, rollout))?;
        Some(if whole {
            show::rollout(deployment.name.as_str(), rollout, now)
        } else {
            show::rollout_line(deployment.name.as_str(), rollout, now)
        })
    };
    deployments.iter().filter_map(line).collect()
}

/// What instances that do not do well wrote last.
fn last_lines(instances: &[InstanceView]) -> String {
    let unwell = |phase: Phase| {
        matches!(phase, Phase::Failed | Phase::CrashLoop | Phase::Restarting | Phase::Unready)
    };
    let mut text = String::new();
    for instance in instances.iter().filter(|one| one.wanted && unwell(one.phase)) {
        if !instance.log.is_empty() {
            let name = show::instance_name(instance);
            let _ = writeln!(text, "\n{name} on {} wrote last:", printable(&instance.node_name));
            text.push_str(&show::log_lines(&instance.log));
        }
    }
    text
}

/// Every slot without a place, with the reasons.
fn unplaced(deployments: &[DeploymentView]) -> String {
    let mut text = String::new();
    for deployment in deployments {
        for unplaced in &deployment.unplaced {
            let summary = printable(&unplaced.summary);
            let _ =
                writeln!(text, "\n{}.{} has no node: {summary}", deployment.name, unplaced.slot);
            for reason in &unplaced.reasons {
                let _ = writeln!(text, "  {}", printable(reason));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use knit_rpc::api::RolloutState;

    use super::*;
    use crate::commands::testing;

    #[test]
    fn a_rollout_is_told_among_many_while_something_is_on_its_way() {
        let mut view = testing::deployment();
        view.rollout = Some(testing::rollout(RolloutState::Running));
        let text = report(std::slice::from_ref(&view), false, false);
        assert!(text.contains("rollout of web to revision 2: running, 0 of 1 healthy"), "{text}");
        view.state = DeploymentState::Running;
        assert!(!report(std::slice::from_ref(&view), false, false).contains("rollout of"));
        assert!(report(&[view], true, false).contains("rollout of"));
    }

    #[test]
    fn a_crash_loop_says_how_often_why_and_what_was_written_last() {
        let mut view = testing::deployment();
        let mut one = testing::instance(0, Phase::CrashLoop);
        one.restarts = 7;
        one.message = Some("exited with code 1".to_owned());
        one.log = vec!["no database at db:5432".to_owned()];
        view.instances = vec![one];
        view.rollout = Some(testing::rollout(RolloutState::Failed));
        let text = report(std::slice::from_ref(&view), true, false);
        assert!(text.contains("crash-loop"), "{text}");
        assert!(text.contains("7 restarts: exited with code 1"), "{text}");
        assert!(
            text.contains("web.0 on fra-1 wrote last:\n  | no database at db:5432\n"),
            "{text}"
        );
        assert!(text.contains("\nrollout of web to revision 2: failed"), "{text}");
        let all = report(&[view], false, false);
        assert!(!all.contains("wrote last") && !all.contains("rollout of"), "{all}");
    }

    #[test]
    fn a_pull_shows_how_far_it_is() {
        let mut view = testing::deployment();
        let mut one = testing::instance(0, Phase::Pulling);
        one.pull = Some(knit_rpc::message::PullProgress { done: 30 << 20, total: 120 << 20 });
        view.instances = vec![one];
        let text = report(&[view], true, false);
        assert!(text.contains("pulled 30 MiB of 120 MiB (25%)"), "{text}");
    }
}
