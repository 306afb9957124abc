//! `knit list`.

use std::process::ExitCode;

use knit_rpc::api::DeploymentView;
use knit_runtime::terminal;

use super::{network, node, show as shown, volume};
use crate::cli::{ListArgs, What};
use crate::server;

pub(super) async fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let (project, show) = (args.of.project.as_ref(), &args.of.show);
    let output = show.output;
    match args.what {
        What::Nodes => return node::list(args.of.show).await,
        What::Volumes => volume::list(args.of).await?,
        What::Networks => network::list(args.of).await?,
        What::Deployments => {
            let deployments = server::find(&show.server).await?.deployments(project).await?;
            let name = |view: &DeploymentView| view.name.to_string();
            terminal::print_rows(output, &deployments, name, shown::deployments)?;
        }
        What::Instances => {
            let instances = server::find(&show.server).await?.instances(project).await?;
            terminal::print_rows(output, &instances, shown::instance_name, shown::instances)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
