//! `knit deploy`: checks the manifest here, sends it, and follows it until its rollout has ended.

mod plan;

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use knit_link::http::{ApiClient, HttpError};
use knit_rpc::api::ErrorBody;
use knit_rpc::spec::{self, DeploymentSpec, Format, MANIFEST_BYTES_MAX};
use knit_runtime::terminal::{self, Colour, colour_stderr, eprintln, printable};
use tokio::signal::unix::{SignalKind, signal};

use super::follow::{Followed, Outcome};
use crate::cli::DeployArgs;
use crate::server;

pub(super) async fn run(args: DeployArgs) -> anyhow::Result<ExitCode> {
    let text = read(&args.file)?;
    let format = format_of(&args.file, &text);
    let spec = match spec::parse_in(&text, format, args.project.as_ref()) {
        Ok(spec) => spec,
        Err(problems) => {
            let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
            report(&args.file, &found);
            return Ok(ExitCode::FAILURE);
        }
    };
    let client = server::find(&args.follow.server).await?;
    let done = if args.plan_only {
        plan_only(&client, &args, &spec, text, format).await
    } else {
        deploy(client, &args, text, format).await
    };
    match done.as_ref().err().and_then(|error| error.downcast_ref()) {
        Some(HttpError::Refused { body, .. }) if !body.fields.is_empty() => {
            report(&args.file, &fields(body));
            Ok(ExitCode::FAILURE)
        }
        _ => done,
    }
}

async fn plan_only(
    client: &ApiClient,
    args: &DeployArgs,
    spec: &DeploymentSpec,
    text: String,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let plan = client.plan(args.project.as_ref(), text, format).await?;
    let render = |plan: &_, wide| plan::render(plan, spec, wide);
    terminal::print_value(args.output, &plan, |plan| plan.name.to_string(), render)?;
    Ok(ExitCode::SUCCESS)
}

async fn deploy(
    client: ApiClient,
    args: &DeployArgs,
    text: String,
    format: Format,
) -> anyhow::Result<ExitCode> {
    // From here on Ctrl-C is ours: nobody is to be left in doubt about what the server does.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let accepted = tokio::select! {
        sent = client.deploy_in(args.project.as_ref(), text, format) => sent?,
        _ = interrupt.recv() => {
            eprintln("interrupted while the manifest was sent: `knit status` shows whether it was taken");
            return Ok(Outcome::Interrupted.exit_code());
        }
    };
    let unchanged = if accepted.unchanged { ", unchanged" } else { "" };
    eprintln(&format!("{} revision {} accepted{unchanged}", accepted.name, accepted.revision));
    for warning in &accepted.warnings {
        eprintln(&colour_stderr(Colour::Yellow, &format!("warning: {}", printable(warning))));
    }
    if args.follow.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let timeout = Duration::from_secs(args.follow.timeout);
    let followed = Followed::new(client, accepted.project, accepted.name, accepted.revision);
    Ok(followed.wait(timeout, &mut interrupt).await?.exit_code())
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
