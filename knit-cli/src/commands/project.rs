//! `knit project`: namespaces of names.

use std::process::ExitCode;

use knit_rpc::api::ProjectView;
use knit_runtime::terminal::table::{Cell, Table};
use knit_runtime::terminal::{self, eprintln};

use super::show::ago;
use crate::cli::ProjectCommand;
use crate::server;

pub(super) async fn run(command: ProjectCommand) -> anyhow::Result<ExitCode> {
    match command {
        ProjectCommand::Create(args) => {
            server::find(&args.server).await?.create_project(&args.name).await?;
            eprintln(&format!("project {} is there", args.name));
        }
        ProjectCommand::Ls(args) => {
            let projects = server::find(&args.server).await?.projects().await?;
            let name = |view: &ProjectView| view.name.to_string();
            terminal::print_rows(args.output, &projects, name, table)?;
        }
        ProjectCommand::Rm(args) => {
            server::find(&args.server).await?.remove_project(&args.name).await?;
            eprintln(&format!("project {} is removed", args.name));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(projects: &[ProjectView], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .column("project")
        .column("deployments")
        .column("volumes")
        .column("networks")
        .column("secrets")
        .column("registries")
        .wide_column("leaving")
        .column("made");
    let now = knit_runtime::clock::now();
    for view in projects {
        let of = &view.contents;
        table.row([
            Cell::from(view.name.as_str()),
            of.deployments.to_string().into(),
            of.volumes.to_string().into(),
            of.networks.to_string().into(),
            of.secrets.to_string().into(),
            of.registries.to_string().into(),
            of.leaving.to_string().into(),
            ago(now, view.created_at).into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use knit_rpc::api::ProjectContents;

    use super::*;
    use crate::commands::testing;

    #[test]
    fn a_project_shows_how_much_is_in_it() {
        let contents = ProjectContents { deployments: 12, secrets: 3, ..Default::default() };
        let name = "shop".parse().unwrap();
        let view = ProjectView { name, created_at: testing::NOW, contents };
        let shown = table(&[view], false).to_string();
        let row = shown.lines().nth(1).unwrap();
        assert!(row.starts_with("shop     12           0        0         3        0"), "{shown}");
    }
}
