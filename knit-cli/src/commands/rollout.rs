//! `knit rollout`: where a rollout stands, and what is done to one that is under way.

use std::process::ExitCode;
use std::time::Duration;

use knit_link::http::RolloutStep;
use knit_rpc::api::RolloutView;
use knit_runtime::terminal::{self, eprintln};
use tokio::signal::unix::{SignalKind, signal};

use super::follow::Followed;
use super::show;
use crate::cli::{HistoryArgs, LifecycleArgs, RolloutCommand};
use crate::server;

pub(super) async fn run(command: RolloutCommand) -> anyhow::Result<ExitCode> {
    match command {
        RolloutCommand::Status(args) => status(args).await,
        RolloutCommand::Pause(args) => steer(args, RolloutStep::Pause).await,
        RolloutCommand::Resume(args) => steer(args, RolloutStep::Resume).await,
        RolloutCommand::Promote(args) => steer(args, RolloutStep::Promote).await,
        RolloutCommand::Abort(args) => steer(args, RolloutStep::Abort).await,
    }
}

async fn status(args: HistoryArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.show.server).await?;
    let name = &args.name.name;
    let rollout = client.rollout(&args.name.project, name).await?;
    let now = knit_runtime::clock::now();
    terminal::print_value(
        args.show.output,
        &rollout,
        |rollout| rollout.state.as_str().to_owned(),
        |rollout, _| show::rollout(name.as_str(), rollout, now),
    )?;
    Ok(ExitCode::SUCCESS)
}

async fn steer(args: LifecycleArgs, step: RolloutStep) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.follow.server).await?;
    let (project, name) = (args.name.project, args.name.name);
    let rollout = client.steer(&project, &name, step).await?;
    eprintln(&outcome(name.as_str(), step, &rollout));
    if args.follow.detach || step == RolloutStep::Pause {
        return Ok(ExitCode::SUCCESS);
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let followed = Followed::new(client, project, name, rollout.revision);
    let timeout = Duration::from_secs(args.follow.timeout);
    Ok(followed.wait(timeout, &mut interrupt).await?.exit_code())
}

fn outcome(name: &str, step: RolloutStep, rollout: &RolloutView) -> String {
    let RolloutView { revision, healthy, slots, .. } = rollout;
    match step {
        RolloutStep::Pause => format!(
            "the rollout of {name} to revision {revision} waits, {healthy} of {slots} are there: \
             `knit rollout resume {name}` goes on"
        ),
        RolloutStep::Resume => format!("the rollout of {name} to revision {revision} goes on"),
        RolloutStep::Promote => {
            format!("revision {revision} of {name} is promoted; the rest follows")
        }
        RolloutStep::Abort => format!("the rollout of {name} is given up; it goes back"),
    }
}
