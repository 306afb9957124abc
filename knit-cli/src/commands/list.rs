//! `knit list`.

use std::process::ExitCode;

use knit_rpc::api::DeploymentView;
use knit_runtime::terminal;

use super::{network, node, show, volume};
use crate::cli::{ListArgs, What};
use crate::server;

pub(super) async fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let output = args.show.output;
    match args.what {
        What::Nodes => return node::list(args.show).await,
        What::Volumes => volume::list(args.show).await?,
        What::Networks => network::list(args.show).await?,
        What::Deployments => {
            let deployments = server::find(&args.show.server).await?.deployments().await?;
            let name = |view: &DeploymentView| view.name.to_string();
            terminal::print_rows(output, &deployments, name, show::deployments)?;
        }
        What::Instances => {
            let instances = server::find(&args.show.server).await?.instances().await?;
            terminal::print_rows(output, &instances, show::instance_name, show::instances)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
