//! `knit deploy`: checks the manifest here, sends it, and follows it until it runs or cannot.

mod follow;

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use knit_link::http::HttpError;
use knit_rpc::api::ErrorBody;
use knit_rpc::spec::{self, Format, MANIFEST_BYTES_MAX};
use knit_runtime::terminal::{eprintln, printable};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::DeployArgs;
use crate::server;
use follow::{Followed, Outcome};

pub(super) async fn run(args: DeployArgs) -> anyhow::Result<ExitCode> {
    let text = read(&args.file)?;
    let format = format_of(&args.file, &text);
    if let Err(problems) = spec::parse(&text, format) {
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        report(&args.file, &found);
        return Ok(ExitCode::FAILURE);
    }
    let client = server::find(&args.server).await?;
    // From here on Ctrl-C is ours: nobody is to be left in doubt about what the server does.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let sent = tokio::select! {
        sent = client.deploy(text, format) => sent,
        _ = interrupt.recv() => {
            eprintln("interrupted while the manifest was sent: `knit status` shows whether it was taken");
            return Ok(Outcome::Interrupted.exit_code());
        }
    };
    let accepted = match sent {
        Ok(accepted) => accepted,
        Err(HttpError::Refused { body, .. }) if !body.fields.is_empty() => {
            report(&args.file, &fields(&body));
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.into()),
    };
    let unchanged = if accepted.unchanged { ", unchanged" } else { "" };
    eprintln(&format!("{} revision {} accepted{unchanged}", accepted.name, accepted.revision));
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let timeout = Duration::from_secs(args.timeout);
    let name = accepted.name.to_string();
    let followed = Followed::new(client, accepted);
    let outcome = tokio::select! {
        outcome = followed.wait(timeout) => outcome?,
        _ = interrupt.recv() => Outcome::Interrupted,
    };
    eprintln(&outcome.describe(&name));
    Ok(outcome.exit_code())
}

fn read(path: &Path) -> anyhow::Result<String> {
    let limit = u64::try_from(MANIFEST_BYTES_MAX)? + 1;
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin()
            .take(limit)
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
    } else {
        let open = || format!("cannot read {}", path.display());
        let file = std::fs::File::open(path).with_context(open)?;
        file.take(limit).read_to_string(&mut text).with_context(open)?;
    }
    if text.trim().is_empty() {
        bail!("{} is empty: a manifest needs at least `name` and `image`", shown(path));
    }
    Ok(text)
}

/// By the file's ending; what comes by standard input is JSON when it begins like that.
fn format_of(path: &Path, text: &str) -> Format {
    if path == Path::new("-") && text.trim_start().starts_with('{') {
        return Format::Json;
    }
    Format::of_path(&path.to_string_lossy())
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// One line for each problem, in the form that editors understand: `FILE:LINE:COLUMN: …`.
fn report(path: &Path, problems: &[String]) {
    let file = if path == Path::new("-") { "-".to_owned() } else { path.display().to_string() };
    for problem in problems {
        let separator = if problem.starts_with(|c: char| c.is_ascii_digit()) { ":" } else { ": " };
        eprintln(&format!("{file}{separator}{}", printable(problem)));
    }
    let count = problems.len();
    let problems = if count == 1 { "1 problem" } else { &format!("{count} problems") };
    eprintln(&format!("{problems} in {}; nothing was deployed", shown(path)));
}

fn fields(body: &ErrorBody) -> Vec<String> {
    let place = |line: Option<u32>, column: Option<u32>| match (line, column) {
        (Some(line), Some(column)) => format!("{line}:{column}: "),
        _ => String::new(),
    };
    body.fields
        .iter()
        .map(|problem| {
            format!("{}{}: {}", place(problem.line, problem.column), problem.field, problem.message)
        })
        .collect()
}
