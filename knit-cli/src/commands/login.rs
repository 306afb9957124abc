//! `knit login` and `knit logout`: which server is asked from now on, and with which token.

use std::io::{BufRead as _, IsTerminal as _, Write as _, stderr, stdin};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use knit_link::http::{Login, proven_identity};
use knit_rpc::access::{Scope, Token};
use knit_runtime::terminal::eprintln;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use crate::cli::{LoginArgs, ServerArgs};
use crate::server;

const LOGIN_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

pub(super) async fn login(args: LoginArgs) -> anyhow::Result<ExitCode> {
    let path = place()?;
    let named = args.url.or_else(|| args.server.server.clone());
    let asked = ServerArgs { server: named, ..args.server.clone() };
    let (url, _) = server::address(&asked).await?;
    let client = server::client(&url).await?;
    let identity = proven_identity(&client).await?;
    check_key(&url, &identity.server_key, args.server_key.as_deref())?;
    let token = read_token(args.server.token_file.as_deref())?;
    let client = client.with_token(token.clone());
    let told = client.whoami().await?;
    let login = Login {
        server: client.base_url().to_owned(),
        server_key: identity.server_key,
        token: token.expose().to_owned(),
    };
    keep(&path, &login)?;
    let scope = Scope::of(told.projects);
    eprintln(&format!("logged in to {url} as {}: {} of {}", told.name, told.role, scope.words()));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn logout() -> anyhow::Result<ExitCode> {
    let path = place()?;
    match std::fs::remove_file(&path) {
        Ok(()) => {
            eprintln("logged out; the token is worth as much as before: `knit token revoke`");
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln("you were not logged in");
        }
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be removed", path.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn place() -> anyhow::Result<PathBuf> {
    Login::path().context("there is no place to keep a login: set HOME or XDG_CONFIG_HOME")
}

/// Compares the server's key with what was given, or has somebody compare it.
fn check_key(url: &str, found: &str, expected: Option<&str>) -> anyhow::Result<()> {
    match expected {
        Some(expected) if expected == found => Ok(()),
        Some(expected) => bail!("the server at {url} has the key {found}, not {expected}"),
        None if !stdin().is_terminal() => bail!(
            "the server at {url} has the key {found}: compare it with what `knit whoami` shows on \
             the server's host, and name it with --server-key"
        ),
        None => {
            eprintln(&format!("the server at {url} has the key\n  {found}"));
            let answer = ask("is that what `knit whoami` shows on the server's host? [y/N] ")?;
            let is_yes = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
            anyhow::ensure!(is_yes, "then it is not the server: nothing was sent");
            Ok(())
        }
    }
}

/// The token from its file, else from standard input: never from the command line, where every
/// user of the host can see it.
fn read_token(file: Option<&Path>) -> anyhow::Result<Token> {
    Ok(Token::parse(&read_hidden(file, "token (it is not shown): ")?)?)
}

/// A line that nobody should see, from its file, else from standard input.
pub(super) fn read_hidden(file: Option<&Path>, question: &str) -> anyhow::Result<String> {
    match file {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display())),
        None if stdin().is_terminal() => ask_hidden(question),
        None => line(),
    }
}

fn ask(question: &str) -> anyhow::Result<String> {
    write!(stderr(), "{question}")?;
    stderr().flush()?;
    line()
}

fn ask_hidden(question: &str) -> anyhow::Result<String> {
    let input = stdin();
    let shown = tcgetattr(&input)?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&input, SetArg::TCSANOW, &hidden)?;
    let answer = ask(question);
    tcsetattr(&input, SetArg::TCSANOW, &shown)?;
    eprintln("");
    answer
}

fn line() -> anyhow::Result<String> {
    let mut text = String::new();
    stdin().lock().read_line(&mut text).context("standard input cannot be read")?;
    Ok(text)
}

fn keep(path: &Path, login: &Login) -> anyhow::Result<()> {
    let cannot = || format!("{} cannot be written", path.display());
    if let Some(parent) = path.parent() {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE).create(parent).with_context(cannot)?;
    }
    let json = serde_json::to_vec_pretty(login)?;
    knit_runtime::file::write_atomic(path, &json, LOGIN_MODE).with_context(cannot)
}
