//! The file itself: whose it is, what is in it, and what is none.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Stdio;

use knit_link::bus::MemoryBus;
use knit_server::backup::archive::{Reader, Writer};
use serde_json::Value;

use super::{back_up, command, names, run, text};
use crate::support::process::Program;
use crate::support::{Home, Server};

/// A home with a cluster that has a vault.
async fn lived() -> Home {
    let (home, bus) = (Home::new(), MemoryBus::new());
    Server::start_on_disk(&home, &bus).await.stop().await;
    home
}

/// The members of a backup that has its master key.
fn members(file: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = std::fs::read(file).expect("as it should be");
    let mut reader = Reader::new(bytes.as_slice());
    let names = ["manifest.json", "identity.json", "master.key", "knit.db"];
    let member = |name| {
        let mut bytes = Vec::new();
        reader.member(name, u64::MAX, &mut bytes).expect("as it should be");
        (name, bytes)
    };
    names.map(member).into()
}

/// A backup, sealed as it should be, that says something else of itself.
fn saying(file: &Path, change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), 0);
    for (name, mut bytes) in members(file) {
        if name == "manifest.json" {
            let mut manifest: Value = serde_json::from_slice(&bytes).expect("as it should be");
            change(&mut manifest);
            bytes = serde_json::to_vec(&manifest).expect("as it should be");
        }
        writer.add(name, bytes.len() as u64, &mut bytes.as_slice()).expect("as it should be");
    }
    writer.finish().expect("as it should be")
}

#[tokio::test]
async fn nothing_but_a_whole_backup_that_this_program_knows_is_restored() {
    let home = lived().await;
    let file = back_up(&home);
    let good = std::fs::read(&file).unwrap();
    let out = tempfile::tempdir().unwrap();
    let (bad, state) = (out.path().join("bad.tar"), out.path().join("state"));
    let check_refused = |bytes: &[u8], why: &str| {
        std::fs::write(&bad, bytes).unwrap();
        for (what, args) in [("backup", vec!["--check", text(&bad)]), ("restore", vec![text(&bad)])]
        {
            let told = run(&state, what, &args).unwrap_err();
            assert!(told.starts_with("error: ") && told.trim().lines().count() == 1, "{told}");
            assert!(told.contains(why), "{what}: {told}, not {why}");
            assert!(!state.exists() || names(&state).is_empty(), "{:?}", names(&state));
        }
    };
    // Cut off where each block ends, and in the middle of it.
    for length in (0..good.len()).step_by(good.len() / 39) {
        let why = if length < 512 { "no backup of knit-server" } else { "cut off" };
        check_refused(&good[..length], why);
    }
    for at in (0..good.len()).step_by(good.len() / 39) {
        let mut other = good.clone();
        other[at] ^= 1;
        check_refused(&other, "it ");
    }
    check_refused(b"SQLite format 3\0 and so on", "no backup of knit-server");
    let newer = |manifest: &mut Value| {
        manifest["format"] = 2.into();
        manifest["knit"] = "9.0.0".into();
    };
    let why = "it is of a newer knit-server (9.0.0): its format is 2, this program reads 1";
    check_refused(&saying(&file, newer), why);
    let other = |manifest: &mut Value| manifest["cluster"] = "0".repeat(32).into();
    check_refused(&saying(&file, other), "it does not fit together");
    let swapped = |manifest: &mut Value| manifest["members"][2]["sha256"] = "0".repeat(64).into();
    check_refused(&saying(&file, swapped), "knit.db is not as it was written");

    let later = |manifest: &mut Value| manifest["schema"] = 999.into();
    std::fs::write(&bad, saying(&file, later)).unwrap();
    let told = run(&state, "restore", &[text(&bad)]).unwrap_err();
    assert!(told.contains("its database's schema is at 999, this program knows"), "{told}");
    assert!(names(&state).is_empty());
    run(&state, "restore", &[text(&file)]).unwrap();
}

#[tokio::test]
async fn it_is_its_owners_alone_and_overwrites_nothing_unasked() {
    let home = lived().await;
    let file = back_up(&home);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let state = home.dir.path();
    let told = run(state, "backup", &["--out", text(&file)]).unwrap_err();
    assert!(told.contains("is there already"), "{told}");
    let told = run(state, "backup", &["--force", "--out", "/dev/null"]).unwrap_err();
    assert!(told.contains("/dev/null is there and is no file"), "{told}");
    let out = tempfile::tempdir().unwrap();
    run(state, "backup", &["--out", text(out.path())]).unwrap();
    let named = names(out.path());
    assert!(named[0].starts_with("knit-backup-20") && named[0].contains(".tar"), "{named:?}");
    let told = run(out.path(), "backup", &[]).unwrap_err();
    assert!(told.contains("there is no cluster in"), "{told}");

    let told = run(state, "restore", &[text(&file)]).unwrap_err();
    let there = "it has identity.json, knit.db, master.key";
    assert!(told.contains(there) && told.contains("overwrites nothing"), "{told}");

    // By pipes, into a directory that is somebody else's.
    let bytes = command(state, "backup", &["--out", "-"]).output().unwrap().stdout;
    let into = out.path().join("state");
    std::fs::create_dir(&into).unwrap();
    let owner =
        if nix::unistd::geteuid().is_root() { 12_345 } else { nix::unistd::geteuid().as_raw() };
    chown(&into, Some(owner), None).unwrap();
    let mut restore = command(&into, "restore", &["-"]).stdin(Stdio::piped()).spawn().unwrap();
    restore.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(restore.wait().unwrap().success());
    assert_eq!(names(&into), ["identity.json", "knit.db", "master.key"]);
    for name in names(&into) {
        let found = std::fs::metadata(into.join(name)).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777), (owner, 0o600));
    }
}

#[tokio::test]
async fn the_master_key_is_in_it_unless_it_is_kept_elsewhere_and_that_is_said() {
    let home = lived().await;
    let state = home.dir.path();
    let out = tempfile::tempdir().unwrap();
    let (file, into) = (out.path().join("it.tar"), out.path().join("state"));
    let told = run(state, "backup", &["--out", text(&file)]).unwrap();
    assert!(told.contains("The master key is in it"), "{told}");
    let told = run(&into, "restore", &[text(&file)]).unwrap();
    assert!(!told.contains("WARNING"), "{told}");
    let key = std::fs::read(state.join("master.key")).unwrap();
    assert_eq!(std::fs::read(into.join("master.key")).unwrap(), key);

    let force = ["--out", text(&file), "--force"];
    let without = [&force[..], &["--without-master-key"]].concat();
    let told = run(state, "backup", &without).unwrap();
    assert!(told.contains("The master key is NOT in it"), "{told}");
    let hex = String::from_utf8(key.clone()).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(64).any(|window| window == hex.trim().as_bytes()));
    std::fs::remove_dir_all(&into).unwrap();
    let told = run(&into, "restore", &[text(&file)]).unwrap();
    assert!(told.contains("WARNING") && told.contains("does not open what is sealed"), "{told}");
    std::fs::remove_dir_all(&into).unwrap();
    let elsewhere = out.path().join("key");
    std::fs::rename(state.join("master.key"), &elsewhere).unwrap();
    let named = ["--master-key-file", text(&elsewhere), text(&file)];
    let told = run(&into, "restore", &named).unwrap();
    assert!(!told.contains("WARNING"), "{told}");

    let told = run(state, "backup", &force).unwrap_err();
    assert!(told.contains("--master-key-file, or say --without-master-key"), "{told}");
    let named = [&force[..], &["--master-key-file", text(&elsewhere)]].concat();
    let told = run(state, "backup", &named).unwrap();
    assert!(told.contains("The master key is NOT in it"), "{told}");
}

#[tokio::test]
async fn it_is_made_beside_the_running_program_and_not_restored_under_it() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(&dir.path().join("state")).await;
    let file = dir.path().join("it.tar");
    run(&program.state, "backup", &["--out", text(&file)]).unwrap();
    let told = run(&program.state, "backup", &["--check", text(&file)]).unwrap();
    assert!(told.contains("it.tar is whole: of cluster"), "{told}");
    program.until_healthy().await;
    let socket = program.state.join("api.sock");
    let into = dir.path().join("other");
    std::os::unix::fs::symlink(&socket, into.with_extension("sock")).unwrap();
    let told = run(&into, "restore", &[text(&file)]).unwrap_err();
    assert!(told.contains("a server runs here"), "{told}");
    assert!(program.terminate().await.success());
    // A restored one starts as the program, and once.
    run(&into, "restore", &[text(&file)]).unwrap();
    let program = Program::start(&into).await;
    let program = program.start_again().await;
    let entries = program.api.audit(0).await.unwrap();
    let restored = entries.iter().filter(|entry| entry.action == "restored").count();
    assert_eq!(restored, 1, "{entries:?}");
}
