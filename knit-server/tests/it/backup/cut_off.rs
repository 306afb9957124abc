//! What is cut off leaves nothing that could be taken for whole.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use knit_rpc::id::DeploymentId;
use knit_rpc::spec::{DeploymentSpec, InstanceSpec};
use knit_server::store::{self, Store};
use knit_server_core::revise;

use super::{command, names, run, said, text};
use crate::support::{Home, process};

/// A state directory whose database takes a while to copy.
async fn large(home: &Home) {
    let identity = home.identity();
    let store = Store::open(&home.dir.path().join("knit.db"), &identity.cluster)
        .await
        .expect("as it should be");
    let mut write = store.begin().await.expect("as it should be");
    for n in 0..40_u8 {
        let mut instance = InstanceSpec { image: "v1".to_owned(), ..InstanceSpec::default() };
        instance.env.insert("LARGE".to_owned(), format!("{n}").repeat(100_000));
        let spec = DeploymentSpec::new(format!("d{n}").parse().expect("as it should be"), instance);
        let id = DeploymentId::from_bytes([n; 16]);
        let deployment = revise::first(id, spec, knit_runtime::clock::now());
        store::deployments::put(&mut write, &deployment).await.expect("as it should be");
    }
    store::commit(write).await.expect("as it should be");
    store.close().await;
}

/// Runs a command and kills it after a while, if it still runs then.
fn kill_after(millis: u64, state: &Path, what: &str, args: &[&str]) {
    let mut child =
        command(state, what, args).stderr(Stdio::null()).spawn().expect("as it should be");
    std::thread::sleep(Duration::from_millis(millis));
    child.kill().expect("as it should be");
    child.wait().expect("as it should be");
}

/// Moments that lie in all parts of what takes this long.
fn moments(of: Duration) -> impl Iterator<Item = u64> {
    let millis = u64::try_from(of.as_millis()).expect("as it should be");
    (0..25).map(move |n| n * (millis + 20) / 24)
}

#[tokio::test]
async fn a_backup_that_is_killed_at_any_moment_leaves_none_or_a_whole_one() {
    let home = Home::new();
    large(&home).await;
    let state = home.dir.path();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("it.tar");
    let begin = std::time::Instant::now();
    run(state, "backup", &["--out", text(&file)]).unwrap();
    let takes = begin.elapsed();
    std::fs::remove_file(&file).unwrap();
    let mut left_behind = 0;
    for millis in moments(takes) {
        kill_after(millis, state, "backup", &["--out", text(&file)]);
        let after = names(out.path());
        left_behind += usize::from(after.iter().any(|name| name.starts_with(".knit-backup-")));
        if file.exists() {
            run(state, "backup", &["--check", text(&file)]).unwrap();
            std::fs::remove_file(&file).unwrap();
        }
    }
    assert!(left_behind > 0, "none was killed in the middle of {takes:?}");
    run(state, "backup", &["--out", text(&file)]).unwrap();
    assert_eq!(names(out.path()), ["it.tar"], "and the next one clears up");
    assert!(!names(state).iter().any(|name| name.starts_with('.')));
}

#[tokio::test]
async fn a_restore_that_is_killed_at_any_moment_is_begun_anew_and_no_server_starts_meanwhile() {
    let home = Home::new();
    large(&home).await;
    let out = tempfile::tempdir().unwrap();
    let (file, state) = (out.path().join("it.tar"), out.path().join("state"));
    run(home.dir.path(), "backup", &["--out", text(&file)]).unwrap();
    let begin = std::time::Instant::now();
    run(&state, "restore", &[text(&file)]).unwrap();
    let takes = begin.elapsed();
    let whole = names(&state);
    assert_eq!(whole, ["identity.json", "knit.db"]);
    let mut halves = 0;
    for millis in moments(takes) {
        std::fs::remove_dir_all(&state).unwrap();
        kill_after(millis, &state, "restore", &[text(&file)]);
        let found = if state.exists() { names(&state) } else { Vec::new() };
        if found == whole {
            continue;
        }
        if found.is_empty() {
            std::fs::create_dir_all(&state).unwrap();
            continue;
        }
        halves += 1;
        assert!(found.contains(&".restore".to_owned()), "{found:?}");
        let server = process::command(&state).stderr(Stdio::piped()).output().unwrap();
        let told = said(&server).unwrap_err();
        assert!(told.contains("was cut off: run `knit-server restore` again"), "{told}");
        run(&state, "restore", &[text(&file)]).unwrap();
        assert_eq!(names(&state), whole);
    }
    assert!(halves > 0, "none was killed in the middle of {takes:?}");
}

#[tokio::test]
async fn a_disk_without_room_is_told_and_nothing_is_left() {
    let home = Home::new();
    large(&home).await;
    let out = tempfile::tempdir().unwrap();
    let (file, state) = (out.path().join("it.tar"), home.dir.path());
    // Files of at most 512 KiB.
    let bounded = |program: &str, what: &str, state: &Path, args: &[&str]| {
        let script = "trap '' XFSZ; ulimit -f 1024; exec \"$@\"";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script, "sh", program, what, "--state-dir", text(state)]);
        said(&command.args(["--socket", "/nonexistent/api.sock"]).args(args).output().unwrap())
    };
    let program = env!("CARGO_BIN_EXE_knit-server");
    let told = bounded(program, "backup", state, &["--out", text(&file)]).unwrap_err();
    assert!(told.contains("the database could not be copied"), "{told}");
    assert!(names(out.path()).is_empty(), "{:?}", names(out.path()));

    run(state, "backup", &["--out", text(&file)]).unwrap();
    let into = out.path().join("state");
    let told = bounded(program, "restore", &into, &[text(&file)]).unwrap_err();
    assert!(told.contains("File too large"), "{told}");
    assert!(names(&into).is_empty(), "{:?}", names(&into));
    run(&into, "restore", &[text(&file)]).unwrap();

    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(state, "backup", &["--out", "-"]).stdout(full).output().unwrap();
    let told = said(&output).unwrap_err();
    assert!(told.contains("could not be written to stdout: No space left on device"), "{told}");
    assert!(!names(state).iter().any(|name| name.starts_with('.')));
}
