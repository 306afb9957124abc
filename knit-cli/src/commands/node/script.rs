//! `knit node script`: what makes a host a node, for those who run it their own way.

use std::process::ExitCode;

use knit_runtime::{clock, terminal};

const SCRIPT: &str = include_str!("script/join.sh");
const WG_MESH_SERVICE: &str = include_str!("../../../../packaging/systemd/wg-mesh.service");
const KNIT_AGENT_SERVICE: &str = include_str!("../../../../packaging/systemd/knit-agent.service");

pub(super) fn run() -> anyhow::Result<ExitCode> {
    terminal::print(&text(clock::now().as_millis() / 1000))?;
    Ok(ExitCode::SUCCESS)
}

/// The script, as it is at this moment: a host whose clock is behind it is refused.
pub(super) fn text(now_secs: u64) -> String {
    SCRIPT
        .replace("@MADE_AT@", &now_secs.to_string())
        .replace("@WG_MESH_SERVICE@", WG_MESH_SERVICE.trim_end())
        .replace("@KNIT_AGENT_SERVICE@", KNIT_AGENT_SERVICE.trim_end())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_script_is_whole_and_shellcheck_has_nothing_to_say() {
        let text = text(1_800_000_000);
        assert!(!text.lines().any(|line| line.starts_with('@') && line.ends_with('@')), "{text}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("join.sh");
        std::fs::write(&path, text).unwrap();
        let checked = Command::new("shellcheck").args(["-s", "sh"]).arg(&path).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}
