//! `knit undeploy`: removes a deployment, and waits until its containers are gone.

use std::process::ExitCode;

use super::ending::{self, Ending};
use crate::cli::UndeployArgs;
use crate::server;

pub(super) async fn run(args: UndeployArgs) -> anyhow::Result<ExitCode> {
    let (project, name) = (&args.ending.name.project, &args.ending.name.name);
    let client = server::find(&args.ending.server).await?;
    if args.volumes {
        client.undeploy_with_volumes(project, name).await?;
    } else {
        client.undeploy(project, name).await?;
    }
    let data = if args.volumes { "; its volumes and their data go with it" } else { "" };
    let ending = Ending { done: "removed", note: data.to_owned(), is_done: |view| view.is_none() };
    ending::wait(&client, &args.ending, &ending).await
}
