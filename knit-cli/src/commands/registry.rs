//! `knit registry`: registries that take a user name and a password.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use knit_rpc::api::{NewRegistry, RegistryView};
use knit_runtime::terminal::table::{Cell, Table};
use knit_runtime::terminal::{self, eprintln, printable};

use super::login::read_hidden;
use super::show::ago;
use crate::cli::{AddRegistryArgs, OfProjectArgs, RegistryArgs, RegistryCommand};
use crate::server;

pub(super) async fn run(command: RegistryCommand) -> anyhow::Result<ExitCode> {
    match command {
        RegistryCommand::Add(args) => add(args).await,
        RegistryCommand::Ls(args) => list(args).await,
        RegistryCommand::Rm(args) => remove(args).await,
        RegistryCommand::Test(args) => test(args).await,
    }
}

async fn add(args: AddRegistryArgs) -> anyhow::Result<ExitCode> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
    };
    let ca = args.ca_file.as_deref().map(read).transpose()?;
    let password = read_hidden(args.password_file.as_deref(), "password (it is not shown): ")?;
    let client = server::find(&args.server).await?;
    let new = NewRegistry {
        project: args.name.project,
        host: args.name.host,
        username: args.username,
        password: password.trim_end_matches(['\r', '\n']).to_owned(),
        ca,
        insecure: args.insecure,
    };
    let kept = client.put_registry(&new).await?;
    eprintln(&format!(
        "project {} signs in to {} as {}; `knit registry test {}` tries it",
        kept.project,
        printable(&kept.host),
        printable(&kept.username),
        printable(&kept.host)
    ));
    Ok(ExitCode::SUCCESS)
}

async fn list(args: OfProjectArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.show.server).await?;
    let registries = client.registries(args.project.as_ref()).await?;
    terminal::print_rows(args.show.output, &registries, |one| one.host.clone(), table)?;
    Ok(ExitCode::SUCCESS)
}

async fn remove(args: RegistryArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.server).await?;
    client.remove_registry(&args.name.project, &args.name.host).await?;
    eprintln(&format!("project {} has nothing for {} now", args.name.project, args.name.host));
    Ok(ExitCode::SUCCESS)
}

/// Fails when the registry does not take them, so that a script notices.
async fn test(args: RegistryArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.server).await?;
    let outcome = client.test_registry(&args.name.project, &args.name.host).await?;
    eprintln(&printable(&outcome.message));
    Ok(if outcome.takes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(registries: &[RegistryView], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .column("project")
        .column("registry")
        .column("user")
        .column("spoken to by")
        .column("changed")
        .wide_column("by");
    let now = knit_runtime::clock::now();
    for view in registries {
        let way = match (view.insecure, view.own_ca) {
            (true, _) => "plain HTTP",
            (false, true) => "TLS, own CA",
            (false, false) => "TLS",
        };
        table.row([
            Cell::from(view.project.as_str()),
            view.host.as_str().into(),
            view.username.as_str().into(),
            way.into(),
            ago(now, view.changed_at).into(),
            view.changed_by.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing;

    #[test]
    fn a_registry_shows_whose_it_is_and_how_it_is_spoken_to() {
        let view = RegistryView {
            project: knit_rpc::id::ProjectName::default(),
            host: "r.example:5000".to_owned(),
            username: "ci".to_owned(),
            own_ca: true,
            insecure: false,
            created_at: testing::NOW,
            changed_at: testing::NOW,
            changed_by: "token t (00000000)".to_owned(),
        };
        let shown = table(&[view], false).to_string();
        let row = shown.lines().nth(1).unwrap();
        assert!(row.starts_with("default  r.example:5000  ci    TLS, own CA   "), "{row}");
    }
}
