//! What every program tells of itself: completions that shells take, pages that `man` takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{stderr, stdout};

const PROGRAMS: [(&str, &str); 4] =
    [("knit", "1"), ("meshctl", "1"), ("knit-server", "8"), ("knit-agent", "8")];

fn run(program: &str, arguments: &[&str]) -> Output {
    let beside = Path::new(env!("CARGO_BIN_EXE_knit")).with_file_name(program);
    let output = Command::new(beside).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", stderr(&output));
    output
}

#[test]
fn every_shell_takes_its_completions() {
    let dir = tempfile::tempdir().unwrap();
    for (program, _) in PROGRAMS {
        for shell in ["bash", "zsh", "fish"] {
            let script = stdout(&run(program, &["completion", shell]));
            assert!(script.contains("check-config") || program == "knit", "{program} {shell}");
            let path = dir.path().join(format!("{program}.{shell}"));
            std::fs::write(&path, script).unwrap();
            let taken = Command::new(shell).arg("-n").arg(&path).output();
            let taken = taken.unwrap_or_else(|error| panic!("{shell} is needed: {error}"));
            assert!(taken.status.success(), "{program} {shell}: {}", stderr(&taken));
        }
    }
}

#[test]
fn every_command_has_a_page_that_man_takes() {
    let dir = tempfile::tempdir().unwrap();
    for (program, _) in PROGRAMS {
        run(program, &["man", dir.path().to_str().unwrap()]);
    }
    let entries = std::fs::read_dir(dir.path()).unwrap();
    let pages: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    for (program, section) in PROGRAMS {
        assert!(pages.contains(&dir.path().join(format!("{program}.{section}"))), "{program}");
    }
    assert!(pages.contains(&dir.path().join("knit-node-add.1")));
    assert!(!pages.iter().any(|page| page.to_string_lossy().contains("-man.")));
    let read = Command::new("man")
        .args([
            "--warnings",
            "--encoding=UTF-8",
            "--local-file",
            "--troff-device=utf8",
            "--ditroff",
        ])
        .args(&pages)
        .output()
        .unwrap();
    assert!(read.status.success() && stderr(&read).is_empty(), "{}", stderr(&read));
}

#[test]
fn a_build_says_what_it_is() {
    for (program, _) in PROGRAMS {
        let text = stdout(&run(program, &["--version"]));
        let start = format!("{program} {} (", env!("CARGO_PKG_VERSION"));
        let built = text.strip_prefix(&start).and_then(|rest| rest.strip_suffix(")"));
        // An archive that git made knows its commit; a working tree is not told.
        let is_dated = |built: &str| {
            built.split_once(' ').is_some_and(|(commit, date)| {
                commit.bytes().all(|byte| byte.is_ascii_hexdigit()) && date.len() == 10
            })
        };
        assert!(built.is_some_and(|built| built == "development" || is_dated(built)), "{text}");
    }
}
