//! `knit network`: networks that deployments join by name.

use std::process::ExitCode;

use knit_rpc::api::NetworkView;
use knit_rpc::message::{NetworkDriver, NetworkSpec};
use knit_runtime::terminal::table::{Cell, Table};
use knit_runtime::terminal::{self, eprintln};

use super::show::ago;
use crate::cli::{CreateNetworkArgs, NetworkCommand, OfProjectArgs};
use crate::server;

pub(super) async fn run(command: NetworkCommand) -> anyhow::Result<ExitCode> {
    match command {
        NetworkCommand::Create(args) => create(args).await?,
        NetworkCommand::Ls(args) => list(args).await?,
        NetworkCommand::Inspect(args) => {
            let client = server::find(&args.show.server).await?;
            let network = client.network(&args.name.project, &args.name.name).await?;
            let text = |network: &NetworkView, _: bool| {
                table(std::slice::from_ref(network), true).to_string()
            };
            terminal::print_value(args.show.output, &network, name, text)?;
        }
        NetworkCommand::Rm(args) => {
            let client = server::find(&args.server).await?;
            client.remove_network(&args.name.project, &args.name.name).await?;
            eprintln(&format!("network {} is removed", args.name.name));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(args: CreateNetworkArgs) -> anyhow::Result<()> {
    let client = server::find(&args.server).await?;
    let network = NetworkSpec {
        project: args.name.project,
        name: args.name.name,
        driver: args.driver,
        subnet: args.subnet,
        internal: args.internal,
    };
    let made = client.create_network(&network).await?;
    eprintln(&format!(
        "network {} is there; nodes get it once something there joins it",
        made.network.name
    ));
    Ok(())
}

pub(super) async fn list(args: OfProjectArgs) -> anyhow::Result<()> {
    let client = server::find(&args.show.server).await?;
    let networks = client.networks(args.project.as_ref()).await?;
    terminal::print_rows(args.show.output, &networks, name, table)?;
    Ok(())
}

fn name(view: &NetworkView) -> String {
    view.network.name.clone()
}

fn table(networks: &[NetworkView], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .wide_column("project")
        .column("network")
        .column("driver")
        .column("subnet")
        .column("reaches")
        .column("used by")
        .column("nodes")
        .wide_column("made")
        .wide_column("docker name");
    let now = knit_runtime::clock::now();
    for view in networks {
        let network = &view.network;
        let driver = match network.driver {
            NetworkDriver::Bridge => "bridge",
            NetworkDriver::Host => "host",
        };
        let subnet = network.subnet.map(|subnet| subnet.to_string());
        table.row([
            Cell::from(network.project.as_str()),
            network.name.as_str().into(),
            driver.into(),
            subnet.as_deref().unwrap_or("by each node").into(),
            if network.internal { "itself only" } else { "outside" }.into(),
            view.used_by.join(", ").into(),
            view.nodes.join(", ").into(),
            ago(now, view.created_at).into(),
            network.docker_name().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing;

    #[test]
    fn a_network_shows_who_uses_it_and_where_it_is() {
        let network = NetworkSpec {
            project: knit_rpc::id::ProjectName::default(),
            name: "backend".to_owned(),
            driver: NetworkDriver::Bridge,
            subnet: None,
            internal: true,
        };
        let view = NetworkView {
            network,
            used_by: vec!["web".to_owned(), "db".to_owned()],
            nodes: vec!["fra-1".to_owned()],
            created_at: testing::NOW,
        };
        let shown = table(&[view], false).to_string();
        assert_eq!(
            shown.lines().nth(1).unwrap(),
            "backend  bridge  by each node  itself only  web, db  fra-1"
        );
    }
}
