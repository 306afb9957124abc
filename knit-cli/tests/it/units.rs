//! The units that packages install: what systemd says of them, without a boot.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::support::{stderr, stdout};

/// Exposure in tenths, as `systemd-analyze security` counts it: at most this much.
pub(crate) const EXPOSURE_MAX: [(&str, u8); 3] =
    [("knit-server", 15), ("wg-mesh", 20), ("knit-agent", 25)];

fn unit(name: &str) -> PathBuf {
    let units = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/systemd");
    PathBuf::from(units).join(format!("{name}.service"))
}

fn analyze(arguments: &[&str], unit: &PathBuf) -> Output {
    Command::new("systemd-analyze").args(arguments).arg(unit).output().unwrap()
}

#[test]
fn every_unit_is_exposed_no_more_than_its_work_needs() {
    for (name, most) in EXPOSURE_MAX {
        let threshold = format!("--threshold={most}");
        let output = analyze(&["security", "--offline=true", &threshold], &unit(name));
        assert!(output.status.success(), "{name}: {}{}", stdout(&output), stderr(&output));
    }
}

#[test]
fn systemd_knows_every_word_of_the_units() {
    let dir = tempfile::tempdir().unwrap();
    for (name, _) in EXPOSURE_MAX {
        let text = std::fs::read_to_string(unit(name)).unwrap();
        // The programs need not be installed here.
        let text: String = text
            .lines()
            .map(|line| if line.starts_with("ExecStart=") { "ExecStart=/bin/true" } else { line })
            .fold(String::new(), |text, line| text + line + "\n");
        let path = dir.path().join(format!("{name}.service"));
        std::fs::write(&path, text).unwrap();
        let output = analyze(&["verify", "--man=no", "--recursive-errors=no"], &path);
        assert!(output.status.success() && stderr(&output).is_empty(), "{}", stderr(&output));
    }
}

/// A mesh or a token, each enough for itself; in a directory that stands for the root's.
#[test]
fn the_agent_s_condition_knows_every_sign_of_a_mesh_and_of_a_token() {
    let text = std::fs::read_to_string(unit("knit-agent")).unwrap();
    let condition = text.lines().find_map(|line| line.strip_prefix("ExecCondition=/bin/sh -c '"));
    let condition = condition.unwrap().strip_suffix('\'').unwrap().replace("$$", "$");
    for (sign, is_socket) in [
        ("/etc/knit/mesh.secret", false),
        ("/run/wgmesh.sock", true),
        ("/run/wg-mesh/wgmesh.sock", true),
        ("/var/lib/knit-agent/join.token", false),
        ("/var/lib/knit-agent/identity.json", false),
        ("/etc/credstore/knit.join-token", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().display();
        let here = ["/etc/", "/run/", "/var/lib/"].iter().fold(condition.clone(), |line, top| {
            line.replace(&format!(" {top}"), &format!(" {root}{top}"))
        });
        let run = || Command::new("sh").args(["-c", &here]).output().unwrap();
        let output = run();
        assert_eq!(output.status.code(), Some(1), "{sign}");
        assert!(stdout(&output).starts_with("not configured yet: "), "{}", stdout(&output));
        let path = dir.path().join(&sign[1..]);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _socket = if is_socket {
            Some(std::os::unix::net::UnixListener::bind(&path).unwrap())
        } else {
            std::fs::write(&path, "x").unwrap();
            None
        };
        assert_eq!(run().status.code(), Some(0), "{sign}");
    }
}
