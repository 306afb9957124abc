//! `knit status`: deployments, under them their instances, and what could not be placed.

use std::fmt::Write as _;
use std::process::ExitCode;

use knit_rpc::api::{DeploymentView, InstanceView};
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_runtime::terminal::{self, Output, printable};

use super::show;
use crate::cli::StatusArgs;
use crate::server;

pub(super) async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let output = args.show.output;
    let project = ProjectName::parse(&args.project)?;
    let name = args.name.as_deref().map(DeploymentName::parse).transpose()?;
    let client = server::find(&args.show.server).await?;
    let deployments = match &name {
        Some(name) => vec![client.deployment(&project, name).await?],
        None => client.deployments().await?,
    };
    match output {
        Output::Table | Output::Wide => {
            terminal::print(&report(&deployments, output == Output::Wide))?;
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

fn report(deployments: &[DeploymentView], wide: bool) -> String {
    if deployments.is_empty() {
        return "nothing is deployed\n".to_owned();
    }
    let mut text = show::deployments(deployments, wide).to_string();
    let instances: Vec<InstanceView> =
        deployments.iter().flat_map(|deployment| deployment.instances.clone()).collect();
    if !instances.is_empty() {
        let _ = write!(text, "\n{}", show::instances(&instances, wide));
    }
    text.push_str(&unplaced(deployments));
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
