//! `knit history`: revisions, the newest first, and what became of each.

use std::process::ExitCode;

use knit_rpc::Timestamp;
use knit_rpc::api::{Cause, RevisionView};
use knit_runtime::terminal;
use knit_runtime::terminal::table::{Cell, Table};

use super::show::{ago, rollout_colour};
use crate::cli::HistoryArgs;
use crate::server;

pub(super) async fn run(args: HistoryArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.show.server).await?;
    let revisions = client.history(&args.name.project, &args.name.name).await?;
    let now = knit_runtime::clock::now();
    terminal::print_rows(
        args.show.output,
        &revisions,
        |revision| revision.revision.to_string(),
        |revisions, wide| table(revisions, now, wide),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn table(revisions: &[RevisionView], now: Timestamp, wide: bool) -> Table {
    let mut table = Table::new(wide)
        .column("revision")
        .column("state")
        .column("cause")
        .column("image")
        .column("replicas")
        .column("changed keys")
        .column("made")
        .wide_column("ended")
        .column("message");
    for revision in revisions {
        let stable = if revision.stable { " (stable)" } else { "" };
        let last = revision.log.last().filter(|_| revision.message.is_none());
        table.row([
            Cell::from(format!("{}{stable}", revision.revision)),
            Cell::coloured(rollout_colour(revision.state), revision.state.as_str()),
            cause(&revision.cause).into(),
            revision.image.as_str().into(),
            revision.replicas.to_string().into(),
            revision.changed.join(", ").into(),
            ago(now, revision.created_at).into(),
            revision.ended_at.map(|ended| ago(now, ended)).unwrap_or_default().into(),
            revision.message.as_ref().or(last).map(String::as_str).unwrap_or_default().into(),
        ]);
    }
    table
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Deploy => "deploy".to_owned(),
        Cause::Scale => "scale".to_owned(),
        Cause::Restart => "restart".to_owned(),
        Cause::Rollback { to, of, automatic: true } => {
            format!("{of} was given up: back to {to}")
        }
        Cause::Rollback { to, .. } => format!("rollback to {to}"),
        Cause::Secret { name, version } => format!("secret {name} version {version}"),
    }
}

#[cfg(test)]
mod tests {
    use knit_rpc::api::RolloutState;

    use super::*;
    use crate::commands::testing;

    #[test]
    fn each_revision_says_what_became_of_it() {
        let mut failed = testing::revision(2, RolloutState::RolledBack);
        failed.message = Some("web.0 on fra-1: exited with code 1".to_owned());
        failed.changed = vec!["image".to_owned(), "env".to_owned()];
        let mut back = testing::revision(3, RolloutState::Succeeded);
        back.cause = Cause::Rollback { to: 1, of: 2, automatic: true };
        back.stable = true;
        let shown = table(&[back, failed], testing::NOW, false).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines[1].starts_with("3 (stable)  succeeded    2 was given up: back to 1  web:1"),
            "{shown}"
        );
        assert!(lines[2].contains("rolled-back  deploy"), "{shown}");
        assert!(
            lines[2].contains("image, env") && lines[2].ends_with("exited with code 1"),
            "{shown}"
        );
    }
}
