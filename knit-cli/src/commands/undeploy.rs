//! `knit undeploy`: removes a deployment, and waits until its containers are gone.

use std::process::ExitCode;
use std::time::Duration;

use knit_link::http::{ApiClient, HttpError};
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_runtime::terminal::eprintln;
use tokio::time::{Instant, sleep};

use crate::cli::UndeployArgs;
use crate::server;

const POLL: Duration = Duration::from_millis(150);
/// As for `knit deploy`: it goes on, but not within the time given.
const EXIT_TIMEOUT: u8 = 4;

pub(super) async fn run(args: UndeployArgs) -> anyhow::Result<ExitCode> {
    let (project, name) = (args.name.project, args.name.name);
    let client = server::find(&args.server).await?;
    if args.volumes {
        client.undeploy_with_volumes(&project, &name).await?;
    } else {
        client.undeploy(&project, &name).await?;
    }
    if args.detach {
        eprintln(&format!("{name} is being removed"));
        return Ok(ExitCode::SUCCESS);
    }
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    while !is_gone(&client, &project, &name).await? {
        if Instant::now() > deadline {
            eprintln(&format!(
                "{name} is not gone after {} s; the server goes on: see `knit status`",
                args.timeout
            ));
            return Ok(ExitCode::from(EXIT_TIMEOUT));
        }
        sleep(POLL).await;
    }
    let data = if args.volumes { "; its volumes and their data go with it" } else { "" };
    eprintln(&format!("{name} is removed{data}"));
    Ok(ExitCode::SUCCESS)
}

async fn is_gone(
    client: &ApiClient,
    project: &ProjectName,
    name: &DeploymentName,
) -> Result<bool, HttpError> {
    match client.deployment(project, name).await {
        Err(error) if error.status() == Some(404) => Ok(true),
        // A server that restarts meanwhile goes on where it was.
        Ok(_) | Err(HttpError::Unreachable { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
