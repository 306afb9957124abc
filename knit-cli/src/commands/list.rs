//! `knit list`.

use std::process::ExitCode;

use knit_runtime::terminal;

use super::show;
use crate::cli::{ListArgs, What};
use crate::server;

pub(super) async fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.show.server).await?;
    let output = args.show.output;
    match args.what {
        What::Nodes => {
            terminal::print_rows(
                output,
                &client.nodes().await?,
                |node| node.name.clone(),
                show::nodes,
            )?;
        }
        What::Deployments => {
            let deployments = client.deployments().await?;
            terminal::print_rows(
                output,
                &deployments,
                |view| view.name.to_string(),
                show::deployments,
            )?;
        }
        What::Instances => {
            let instances = client.instances().await?;
            terminal::print_rows(output, &instances, show::instance_name, show::instances)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
