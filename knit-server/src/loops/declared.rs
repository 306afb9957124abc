//! Has what the files of a directory declare, once after each start.
//!
//! ```text
//! files in order of name ─> parse ─> app::declare ─┬─> applied, or so already: not looked at again
//!                                                  └─> a problem: told once, tried again
//! ```
//!
//! Invariant: nothing here keeps the server from running, and nothing is undeployed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use knit_rpc::spec::{self, Format, MANIFEST_BYTES_MAX};
use knit_runtime::error::sentence;
use knit_runtime::terminal::printable;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::declared::Outcome;
use crate::app::{App, AppError};
use crate::store::declared::Named;

/// A secret that is set later, or a file that is mended, is noticed after so long.
pub const RETRY: Duration = Duration::from_secs(30);
/// Files of the directory that are read.
const FILES_MAX: usize = 1000;
/// So much of it is shown in the unit's status.
const STATUS_CHARS_MAX: usize = 200;
/// What is waited for when the directory itself cannot be read.
const THE_DIRECTORY: &str = "";
const ENDINGS: [&str; 4] = ["yaml", "yml", "json", "toml"];

/// Applies the directory's manifests, and tries again what had a problem, until all is applied or
/// until told to stop. What is not applied is told to `trouble`, in one sentence.
pub async fn run(
    app: &App,
    dir: &Path,
    trouble: &watch::Sender<Option<String>>,
    retry: Duration,
    stop: CancellationToken,
) {
    let mut round = Round::default();
    loop {
        round.walk(app, dir, &stop).await;
        trouble.send_replace(round.trouble(dir));
        if round.waiting.is_empty() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(retry) => {}
        }
    }
}

/// What is known from one try to the next.
#[derive(Default)]
struct Round {
    /// Which file declared what.
    claims: BTreeMap<Named, String>,
    /// Files that need no other look.
    settled: BTreeSet<String>,
    /// Files, or the directory itself, that are tried again, with what was told of them.
    waiting: BTreeMap<String, Vec<String>>,
    /// Files whose deployment was given up.
    given_up: BTreeMap<String, String>,
}

impl Round {
    async fn walk(&mut self, app: &App, dir: &Path, stop: &CancellationToken) {
        let files = match list(dir).await {
            Ok(files) => files,
            Err(why) => return self.problems(dir, THE_DIRECTORY, vec![why]),
        };
        self.waiting.retain(|file, _| files.contains(file));
        for file in &files {
            if stop.is_cancelled() {
                return;
            }
            if self.settled.contains(file) {
                continue;
            }
            match self.apply(app, dir, file).await {
                Ok(()) => {
                    self.waiting.remove(file);
                    self.settled.insert(file.clone());
                }
                Err(found) => self.problems(dir, file, found),
            }
        }
        self.tell_gone(app, &files).await;
    }

    async fn apply(&mut self, app: &App, dir: &Path, file: &str) -> Result<(), Vec<String>> {
        let text = read(&dir.join(file)).await.map_err(|why| vec![why])?;
        let spec = spec::parse(&text, Format::of_path(file))
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let named = (spec.project.clone(), spec.name.clone());
        if let Some(other) = self.claims.get(&named).filter(|other| *other != file) {
            return Err(vec![format!("name: {} is declared by {other} already", spec.name)]);
        }
        self.claims.insert(named, file.to_owned());
        if let Outcome::GivenUp { revision } = app.declare(file, spec).await.map_err(sentences)? {
            let why = format!("was given up as revision {revision}: it waits for another manifest");
            tracing::warn!(file, "{why}");
            self.given_up.insert(file.to_owned(), why);
        }
        Ok(())
    }

    /// Tells of problems that were not told at the try before.
    fn problems(&mut self, dir: &Path, file: &str, found: Vec<String>) {
        if self.waiting.get(file) != Some(&found) {
            let path = if file == THE_DIRECTORY { dir.to_owned() } else { dir.join(file) };
            for problem in &found {
                tracing::error!("{}", line(&path.to_string_lossy(), problem));
            }
        }
        self.waiting.insert(file.to_owned(), found);
    }

    async fn tell_gone(&self, app: &App, files: &BTreeSet<String>) {
        match app.no_longer_declared(|file| files.contains(file)).await {
            Ok(gone) => {
                for ((project, name), file) in gone {
                    tracing::warn!(
                        file, deployment.name = %name, %project,
                        "its file is gone, and it runs on: knit undeploy removes it"
                    );
                }
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "which files are gone could not be found out");
            }
        }
    }

    /// What is not applied, in one sentence.
    fn trouble(&self, dir: &Path) -> Option<String> {
        let waiting = self.waiting.iter().filter_map(|(file, why)| Some((file, why.first()?)));
        let troubled: BTreeMap<_, _> = waiting.chain(&self.given_up).collect();
        let (file, why) = troubled.first_key_value()?;
        let dir = dir.display();
        let told = if file.as_str() == THE_DIRECTORY {
            line(&dir.to_string(), why)
        } else {
            let (count, of) = (troubled.len(), self.settled.len() + self.waiting.len());
            format!("{count} of {of} manifests in {dir} not applied: {}", line(file, why))
        };
        Some(told.chars().take(STATUS_CHARS_MAX).collect())
    }
}

/// In the form that editors understand: `FILE:LINE:COLUMN: …`.
fn line(file: &str, problem: &str) -> String {
    let separator = if problem.starts_with(|c: char| c.is_ascii_digit()) { ":" } else { ": " };
    format!("{file}{separator}{}", printable(problem))
}

fn sentences(error: AppError) -> Vec<String> {
    if let AppError::Invalid(fields) = error {
        return fields.into_iter().map(|one| format!("{}: {}", one.field, one.message)).collect();
    }
    vec![sentence(&error)]
}

/// The names of the directory's manifests, in order.
async fn list(dir: &Path) -> Result<BTreeSet<String>, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let mut entries = tokio::fs::read_dir(dir).await.map_err(unreadable)?;
    let mut files = BTreeSet::new();
    while let Some(entry) = entries.next_entry().await.map_err(unreadable)? {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_manifest =
            name.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending));
        if is_manifest && !name.starts_with('.') {
            files.insert(name);
        }
        if files.len() > FILES_MAX {
            return Err(format!("has more than {FILES_MAX} manifests"));
        }
    }
    Ok(files)
}

async fn read(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    // What is no file, a pipe for example, could be read for ever.
    if !tokio::fs::metadata(path).await.map_err(unreadable)?.is_file() {
        return Err("is no file".to_owned());
    }
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let limit = u64::try_from(MANIFEST_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    file.take(limit).read_to_string(&mut text).await.map_err(unreadable)?;
    if text.trim().is_empty() {
        return Err("is empty: a manifest needs at least `name` and `image`".to_owned());
    }
    Ok(text)
}
