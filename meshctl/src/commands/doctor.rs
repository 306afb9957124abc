//! `meshctl doctor`: what on this host keeps its mesh from working, each with the way out.
//!
//! ```text
//!   gather (reads, asks, pings) ──> Facts ──> check (pure) ──> findings ──> table or JSON
//! ```
//!
//! Invariant: a check reads nothing but the facts, and what could not be found out is no failure.

mod check;
mod facts;
mod gather;

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use knit_runtime::terminal::{self, Colour, printable};

use crate::cli::DoctorArgs;
use check::{Finding, Verdict};

pub(super) async fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let facts = gather::gather(args).await;
    let findings = check::all(&facts);
    let table = |findings: &Vec<Finding>, _: bool| text(findings);
    let names = |findings: &Vec<Finding>| {
        let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Fail);
        failed.map(|finding| finding.check).collect::<Vec<_>>().join(" ")
    };
    terminal::print_value(args.show.output, &findings, names, table)?;
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let verdict = format!("{:<5}", finding.verdict.as_str());
        let verdict = terminal::colour(colour_of(finding.verdict), &verdict);
        let seen = printable(&finding.seen);
        let _ = writeln!(text, "{verdict} {:<13} {seen}", finding.check);
        if let Some(fix) = &finding.fix {
            let _ = writeln!(
                text,
                "{:<20}{} {}",
                "",
                terminal::colour(Colour::Bold, "fix:"),
                printable(fix)
            );
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let _ = writeln!(
        text,
        "\n{} ok, {} to look at, {} failed, {} not checked",
        count(Verdict::Ok),
        count(Verdict::Warn),
        count(Verdict::Fail),
        count(Verdict::Skip)
    );
    text
}

fn colour_of(verdict: Verdict) -> Colour {
    match verdict {
        Verdict::Ok => Colour::Green,
        Verdict::Warn => Colour::Yellow,
        Verdict::Fail => Colour::Red,
        Verdict::Skip => Colour::Dim,
    }
}
