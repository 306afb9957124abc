//! `knit audit`: who did what.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use knit_link::http::HttpError;
use knit_rpc::Timestamp;
use knit_rpc::audit::AuditEntry;
use knit_runtime::terminal::{self, eprintln, printable};
use tokio::time::sleep;

use crate::cli::AuditArgs;
use crate::server;

const POLL: Duration = Duration::from_secs(1);
const EXIT_BROKEN: u8 = 3;

pub(super) async fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let client = server::find(&args.server).await?;
    if args.check {
        let check = client.check_audit().await?;
        return Ok(match &check.broken {
            None => {
                let (entries, head) = (check.entries, &check.head);
                terminal::print(&format!(
                    "{entries} entries, none was changed; the last is {head}\n"
                ))?;
                ExitCode::SUCCESS
            }
            Some(problem) => {
                eprintln(&format!("the audit was tampered with: {}", printable(problem)));
                ExitCode::from(EXIT_BROKEN)
            }
        });
    }
    let mut after = args.after;
    loop {
        let page = match client.audit(after).await {
            Ok(page) => page,
            // A server that restarts meanwhile has the rest.
            Err(HttpError::Unreachable { .. }) if args.follow => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        for entry in &page {
            after = entry.sequence;
            let text = if args.json { json(entry)? } else { line(entry) };
            terminal::print(&format!("{text}\n"))?;
        }
        match (page.is_empty(), args.follow) {
            (false, _) => {}
            (true, true) => sleep(POLL).await,
            (true, false) => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn json(entry: &AuditEntry) -> anyhow::Result<String> {
    serde_json::to_string(entry).context("an entry could not be written")
}

fn line(entry: &AuditEntry) -> String {
    let subject = match entry.subject.as_str() {
        "" => String::new(),
        subject => format!("  {subject}"),
    };
    let AuditEntry { sequence, actor, origin, action, status, .. } = entry;
    printable(&format!(
        "{sequence:>6}  {}  {status}  {actor} from {origin}  {action}{subject}",
        at(entry.at)
    ))
}

/// `2026-11-21T15:30:00Z`
fn at(moment: Timestamp) -> String {
    let secs = i64::try_from(moment.as_millis() / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(secs).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use knit_rpc::audit::{AuditFact, BEGINNING};

    use super::*;

    #[test]
    fn an_entry_is_one_line_whatever_is_in_it() {
        let fact = AuditFact {
            at: Timestamp::from_millis(1_800_000_000_000),
            actor: "token a\nb (3f9a12cd)".to_owned(),
            origin: "10.45.0.7".to_owned(),
            action: "POST /v1/deployments".to_owned(),
            subject: "shop/web revision 3".to_owned(),
            status: 202,
            request_id: "r".to_owned(),
        };
        let shown = line(&AuditEntry::following(0, BEGINNING, fact));
        let start = "     1  2027-01-15T08:00:00Z  202  token a";
        assert!(shown.starts_with(start) && !shown.contains('\n'), "{shown}");
        assert!(
            shown.ends_with("from 10.45.0.7  POST /v1/deployments  shop/web revision 3"),
            "{shown}"
        );
    }
}
