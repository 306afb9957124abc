//! The checks: facts in, findings out.

mod daemon;
mod firewall;
mod host;
mod network;
mod ruleset;

use serde::Serialize;

use super::facts::Facts;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// It works, or may, and somebody should look.
    Warn,
    /// The mesh cannot work like this.
    Fail,
    /// It could not be found out.
    Skip,
}

impl Verdict {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skip => "-",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    pub(super) seen: String,
    /// What to do, a command wherever there is one.
    pub(super) fix: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, seen: impl Into<String>) -> Self {
        Self { check, verdict, seen: seen.into(), fix: None }
    }

    fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, seen)
    }

    fn warn(check: &'static str, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(check, Verdict::Warn, seen) }
    }

    fn fail(check: &'static str, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..Self::new(check, Verdict::Fail, seen) }
    }

    fn skip(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Verdict::Skip, seen)
    }
}

/// Every check, in the order in which one would look.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        host::privileges(facts),
        host::engine(facts),
        daemon::socket(facts),
        daemon::interface(facts),
    ];
    findings.extend(daemon::ports(facts));
    findings.extend(firewall::open_ports(facts));
    findings.push(network::multicast(facts));
    findings.extend(network::addresses(facts));
    findings.extend(daemon::peers(facts));
    findings.extend(daemon::clocks(facts));
    findings.extend(network::paths(facts));
    findings.push(network::forwarding(facts));
    findings.extend(firewall::docker(facts));
    findings.push(network::reverse_path(facts));
    findings.extend(host::files(facts));
    findings.extend(host::secret(facts));
    findings
}
