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
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::process::{Command, Output};

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

    /// Debian 13: without its recommendations `docker.io` brings the daemon alone.
    const APT_GET: &str = "for word in \"$@\"; do case $word in
             docker.io) echo >$BIN/dockerd ;;
             docker-cli) echo >$BIN/docker ;;
             nftables) echo >$BIN/nft ;;
             iptables) echo >$BIN/iptables ;;
         esac; done; chmod +x $BIN/*; echo \"$@\" >>$BIN/asked";

    /// Runs a part of the script on a host that has these programs, and an apt-get as above.
    fn run(bin: &Path, has: &[&str], line: &str) -> Output {
        for (name, text) in has.iter().map(|name| (*name, "")).chain([("apt-get", APT_GET)]) {
            let path = bin.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        for tool in ["mktemp", "rm", "tail", "chmod"] {
            symlink(Path::new("/bin").join(tool), bin.join(tool)).unwrap();
        }
        let functions = SCRIPT.strip_suffix("main \"$@\"\n").unwrap();
        let shell = Command::new("/bin/sh")
            .args(["-c", &format!("{functions}\n{line}")])
            .env_clear()
            .env("PATH", bin)
            .env("BIN", bin)
            .output();
        shell.unwrap()
    }

    #[test]
    fn docker_s_program_is_installed_where_docker_comes_without() {
        for has in [&[][..], &["dockerd"], &["docker", "dockerd"]] {
            let dir = tempfile::tempdir().unwrap();
            let output = run(dir.path(), has, "need_packages; has docker; need_packages");
            let asked = std::fs::read_to_string(dir.path().join("asked")).unwrap();
            let words = "-y -q --no-install-recommends install";
            let wanted = match has {
                [] => format!("{words} docker.io nftables iptables\n{words} docker-cli\n"),
                ["dockerd"] => format!("{words} docker-cli nftables iptables\n"),
                _ => format!("{words} nftables iptables\n"),
            };
            assert_eq!(asked, wanted, "{}", String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success());
        }
    }
}
