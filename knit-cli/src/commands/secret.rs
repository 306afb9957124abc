//! `knit secret`: values go in by a file or standard input, never by the command line, and never
//! come out.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use knit_link::http::ApiClient;
use knit_rpc::api::{SECRET_BYTES_MAX, SecretStored, SecretVersion, SecretView};
use knit_runtime::terminal::table::{Cell, Table};
use knit_runtime::terminal::{self, eprintln};
use zeroize::Zeroizing;

use super::show::ago;
use crate::cli::{
    OfProjectArgs, OneSecretArgs, RotateSecretArgs, SecretArgs, SecretCommand, SecretHistoryArgs,
    SetSecretArgs,
};
use crate::server;

pub(super) async fn run(command: SecretCommand) -> anyhow::Result<ExitCode> {
    match command {
        SecretCommand::Set(args) => set(args).await?,
        SecretCommand::Rotate(args) => rotate(args).await?,
        SecretCommand::Ls(args) => list(args).await?,
        SecretCommand::History(args) => history(args).await?,
        SecretCommand::Rm(args) => remove(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(args: SetSecretArgs) -> anyhow::Result<()> {
    let value = read(args.file.as_deref())?;
    let client = server::find(&args.server).await?;
    store(&client, &args.secret, &value, None).await
}

async fn rotate(args: RotateSecretArgs) -> anyhow::Result<()> {
    let RotateSecretArgs { set, generate } = args;
    let value = match generate {
        Some(bytes) => random(bytes)?,
        None => read(set.file.as_deref())?,
    };
    let client = server::find(&set.server).await?;
    let OneSecretArgs { project, name } = &set.secret;
    let versions = client.secret_versions(project, name).await?;
    let newest = versions.first().map(|version| version.version);
    store(&client, &set.secret, &value, newest).await
}

async fn store(
    client: &ApiClient,
    secret: &OneSecretArgs,
    value: &[u8],
    expected: Option<u64>,
) -> anyhow::Result<()> {
    let stored = client.set_secret(&secret.project, &secret.name, value, expected).await?;
    for line in told(&stored) {
        eprintln(&line);
    }
    Ok(())
}

fn told(stored: &SecretStored) -> Vec<String> {
    let SecretStored { name, version, .. } = stored;
    if stored.unchanged {
        return vec![format!("secret {name} has this value already (version {version})")];
    }
    let mut lines = vec![format!("secret {name} version {version} is set")];
    if !stored.rolled_out.is_empty() {
        lines.push(format!("rolled out now: {}", stored.rolled_out.join(", ")));
    }
    if !stored.signalled.is_empty() {
        lines.push(format!("replaced in running containers: {}", stored.signalled.join(", ")));
    }
    lines
}

async fn list(args: OfProjectArgs) -> anyhow::Result<()> {
    let client = server::find(&args.show.server).await?;
    let secrets = client.secrets(args.project.as_ref()).await?;
    terminal::print_rows(args.show.output, &secrets, |one| one.name.to_string(), table)?;
    Ok(())
}

async fn history(args: SecretHistoryArgs) -> anyhow::Result<()> {
    let client = server::find(&args.show.server).await?;
    let versions = client.secret_versions(&args.secret.project, &args.secret.name).await?;
    let name = |one: &SecretVersion| one.version.to_string();
    terminal::print_rows(args.show.output, &versions, name, versions_table)?;
    Ok(())
}

async fn remove(args: SecretArgs) -> anyhow::Result<()> {
    let client = server::find(&args.server).await?;
    client.remove_secret(&args.secret.project, &args.secret.name).await?;
    eprintln(&format!("secret {} is removed", args.secret.name));
    Ok(())
}

/// The value, to the last byte.
fn read(path: Option<&Path>) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let limit = u64::try_from(SECRET_BYTES_MAX)? + 1;
    let mut value = Zeroizing::new(Vec::new());
    match path {
        Some(path) => {
            let failed = || format!("cannot read {}", path.display());
            let file = std::fs::File::open(path).with_context(failed)?;
            file.take(limit).read_to_end(&mut value).with_context(failed)?;
        }
        None if std::io::stdin().is_terminal() => {
            bail!("pipe the value in, or name a file with --file: what is typed would be seen");
        }
        None => {
            let stdin = std::io::stdin();
            stdin.take(limit).read_to_end(&mut value).context("cannot read standard input")?;
        }
    }
    if value.is_empty() {
        bail!("the value is empty: a secret has at least one byte");
    }
    if value.len() > SECRET_BYTES_MAX {
        bail!("the value is too large: at most {} KiB are kept", SECRET_BYTES_MAX / 1024);
    }
    Ok(value)
}

fn random(bytes: u16) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut random = Zeroizing::new(vec![0; usize::from(bytes)]);
    getrandom::fill(&mut random).context("the system gives no random bytes")?;
    Ok(Zeroizing::new(hex::encode(&*random).into_bytes()))
}

fn table(secrets: &[SecretView], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .wide_column("project")
        .column("secret")
        .column("version")
        .column("set")
        .wide_column("by")
        .wide_column("bytes")
        .column("used by");
    let now = knit_runtime::clock::now();
    for view in secrets {
        table.row([
            Cell::from(view.project.as_str()),
            view.name.as_str().into(),
            view.version.to_string().into(),
            ago(now, view.updated_at).into(),
            view.updated_by.as_str().into(),
            view.bytes.to_string().into(),
            view.used_by.join(", ").into(),
        ]);
    }
    table
}

fn versions_table(versions: &[SecretVersion], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .column("version")
        .column("set")
        .column("by")
        .wide_column("bytes")
        .column("value")
        .column("used by");
    let now = knit_runtime::clock::now();
    for version in versions {
        let value = match version.erased_at {
            _ if version.erased => "erased".to_owned(),
            None => "newest".to_owned(),
            Some(at) if at <= now => "kept while it is used".to_owned(),
            Some(at) => format!("kept for {} d more", at.since(now).as_secs().div_ceil(86_400)),
        };
        table.row([
            Cell::from(version.version.to_string()),
            ago(now, version.created_at).into(),
            version.created_by.as_str().into(),
            version.bytes.to_string().into(),
            value.into(),
            version.used_by.join(", ").into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use knit_rpc::Timestamp;

    use super::*;

    #[test]
    fn what_follows_a_new_version_is_told() {
        let stored = SecretStored {
            project: knit_rpc::id::ProjectName::default(),
            name: "db".parse().unwrap(),
            version: 3,
            unchanged: false,
            rolled_out: vec!["web".to_owned(), "api".to_owned()],
            signalled: vec!["proxy".to_owned()],
        };
        assert_eq!(
            told(&stored),
            [
                "secret db version 3 is set",
                "rolled out now: web, api",
                "replaced in running containers: proxy"
            ]
        );
        let unchanged = SecretStored { unchanged: true, ..stored };
        assert_eq!(told(&unchanged), ["secret db has this value already (version 3)"]);
    }

    #[test]
    fn the_versions_say_what_became_of_their_values() {
        let version = |version, erased, erased_at| SecretVersion {
            version,
            bytes: 12,
            created_at: Timestamp::from_millis(0),
            created_by: "token ci (8c1e55a0)".to_owned(),
            erased,
            erased_at,
            used_by: vec!["web".to_owned()],
        };
        let versions = [
            version(3, false, None),
            version(2, false, Some(Timestamp::from_millis(1))),
            version(1, true, None),
        ];
        let shown = versions_table(&versions, false).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[1].contains("newest"), "{shown}");
        assert!(lines[2].contains("kept while it is used"), "{shown}");
        assert!(lines[3].contains("erased"), "{shown}");
    }
}
