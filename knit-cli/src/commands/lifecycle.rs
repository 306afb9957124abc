//! `knit scale`, `restart`, `stop`, `start` and `rollback`: what is done to a deployment that is
//! there already.

use std::process::ExitCode;
use std::time::Duration;

use knit_link::http::ApiClient;
use knit_rpc::api::{Accepted, DeploymentState};
use knit_runtime::terminal::eprintln;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::ending::{self, Ending};
use super::follow::Followed;
use crate::cli::{EndingArgs, FollowArgs, LifecycleArgs, RollbackArgs, ScaleArgs};
use crate::server;

pub(super) async fn scale(args: ScaleArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.follow.server).await?;
    let mut accepted = Vec::new();
    for (name, replicas) in &args.targets {
        let one = client.scale(&args.project, name, *replicas).await?;
        let word = if one.unchanged { "has" } else { "is scaled to" };
        let replicas = if *replicas == 1 { "1 replica" } else { &format!("{replicas} replicas") };
        eprintln(&format!("{name} {word} {replicas}: revision {}", one.revision));
        accepted.push(one);
    }
    follow(client, accepted, &args.follow).await
}

pub(super) async fn restart(args: LifecycleArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.follow.server).await?;
    let accepted = client.restart(&args.name.project, &args.name.name).await?;
    eprintln(&format!("{} restarts as revision {}", accepted.name, accepted.revision));
    follow(client, vec![accepted], &args.follow).await
}

pub(super) async fn start(args: LifecycleArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.follow.server).await?;
    let accepted = client.start(&args.name.project, &args.name.name).await?;
    let word = if accepted.unchanged { "was not stopped" } else { "starts" };
    eprintln(&format!("{} {word}: revision {}", accepted.name, accepted.revision));
    follow(client, vec![accepted], &args.follow).await
}

pub(super) async fn rollback(args: RollbackArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.follow.server).await?;
    let accepted = client.rollback(&args.name.project, &args.name.name, args.to).await?;
    eprintln(&format!("{} goes back, as revision {}", accepted.name, accepted.revision));
    follow(client, vec![accepted], &args.follow).await
}

pub(super) async fn stop(args: EndingArgs) -> anyhow::Result<ExitCode> {
    let (project, name) = (&args.name.project, &args.name.name);
    let client = server::find(&args.server).await?;
    client.stop(project, name).await?;
    let ending = Ending {
        done: "stopped",
        note: format!("; `knit start {name}` has it run again"),
        is_done: |view| view.is_none_or(|view| view.state == DeploymentState::Stopped),
    };
    ending::wait(&client, &args, &ending).await
}

/// Follows each to its end; the exit code is the first that is not 0.
async fn follow(
    client: ApiClient,
    accepted: Vec<Accepted>,
    args: &FollowArgs,
) -> anyhow::Result<ExitCode> {
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let mut code = 0;
    for one in accepted {
        let followed = Followed::new(client.clone(), one.project, one.name, one.revision);
        let left = deadline.saturating_duration_since(Instant::now());
        let outcome = followed.wait(left, &mut interrupt).await?.code();
        code = if code == 0 { outcome } else { code };
        if outcome == 130 {
            break;
        }
    }
    Ok(ExitCode::from(code))
}
