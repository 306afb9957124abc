//! `knit token` and `knit whoami`.

use std::process::ExitCode;

use knit_rpc::access::{NewToken, Scope, TokenView, Whoami};
use knit_runtime::terminal::table::{Cell, Table};
use knit_runtime::terminal::{self, Colour, eprintln};

use super::show::{ago, rough};
use crate::cli::{CreateTokenArgs, ShowArgs, TokenCommand};
use crate::server;

pub(super) async fn run(command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create(args) => create(args).await?,
        TokenCommand::Ls(args) => {
            let tokens = server::find(&args.server).await?.tokens().await?;
            let id = |view: &TokenView| view.id.to_string();
            terminal::print_rows(args.output, &tokens, id, table)?;
        }
        TokenCommand::Revoke(args) => {
            server::find(&args.server).await?.revoke_token(args.id.as_str()).await?;
            eprintln(&format!("token {} is worth nothing any more", args.id));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(args: CreateTokenArgs) -> anyhow::Result<()> {
    let client = server::find(&args.server).await?;
    let projects = (!args.projects.is_empty()).then(|| args.projects.into_iter().collect());
    let ttl = args.ttl.map(|ttl| ttl.as_secs());
    let new = NewToken { name: args.name, role: args.role, projects, ttl };
    let minted = client.create_token(&new).await?;
    eprintln(&format!(
        "token {} is {} of {}; it is shown this once:",
        minted.view.id,
        minted.view.role,
        new.scope().words()
    ));
    Ok(terminal::print(&format!("{}\n", minted.token))?)
}

pub(super) async fn whoami(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.server).await?;
    let told = client.whoami().await?;
    let name = |told: &Whoami| told.name.clone();
    let text = |told: &Whoami, _: bool| {
        let url = client.base_url();
        let scope = Scope::of(told.projects.clone());
        format!(
            "you         {}\nrole        {} of {}\nserver      {url}\nserver key  {}\n",
            told.name,
            told.role,
            scope.words(),
            told.server_key
        )
    };
    terminal::print_value(args.output, &told, name, text)?;
    Ok(ExitCode::SUCCESS)
}

fn table(tokens: &[TokenView], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .column("id")
        .column("name")
        .column("role")
        .column("projects")
        .column("expires")
        .column("last used")
        .column("made")
        .wide_column("made by");
    let now = knit_runtime::clock::now();
    for view in tokens {
        let scope = Scope::of(view.projects.clone());
        let expires = match view.expires_at {
            None => Cell::from("never"),
            Some(at) if at <= now => Cell::coloured(Colour::Red, "expired"),
            Some(at) => format!("in {}", rough(at.since(now))).into(),
        };
        table.row([
            Cell::from(view.id.as_str()),
            view.name.as_str().into(),
            view.role.as_str().into(),
            scope.to_string().into(),
            expires,
            view.last_used_at.map_or_else(|| "never".to_owned(), |at| ago(now, at)).into(),
            ago(now, view.created_at).into(),
            view.created_by.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing;

    #[test]
    fn a_token_shows_what_it_opens_and_no_secret() {
        let view = TokenView {
            id: "3f9a12cd".parse().unwrap(),
            name: "ci".to_owned(),
            role: knit_rpc::access::Role::Deployer,
            projects: Some(["shop".parse().unwrap(), "blog".parse().unwrap()].into()),
            created_by: "root on the server's host".to_owned(),
            created_at: testing::NOW,
            expires_at: Some(testing::NOW),
            last_used_at: None,
        };
        let shown = table(&[view], false).to_string();
        let row = shown.lines().nth(1).unwrap();
        let start = "3f9a12cd  ci    deployer  blog, shop  expired  never";
        assert!(row.starts_with(start), "{row}");
    }
}
