//! The command line without any cluster.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn knit(args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_knit"))
        .args(args)
        .env_remove("KNIT_SERVER")
        .env_remove("KNIT_TOKEN")
        .env_remove("KNIT_TOKEN_FILE")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env_remove("WGMESH_SOCKET")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_problem_of_a_manifest_is_told_at_once_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.yaml");
    std::fs::write(&file, "name: web\nimagee: x\nreplicas: many\n").unwrap();
    // Nothing listens there: a wrong manifest is refused before anything is sent.
    let server = "http://127.0.0.1:9";
    let output = knit(&["deploy", "--server", server, "-f", file.to_str().unwrap()], "");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("web.yaml:2:1: "), "{text}");
    assert!(text.contains("web.yaml:3:11: "), "{text}");
    assert!(text.contains("nothing was deployed"), "{text}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_manifest_from_standard_input_is_told_so() {
    let output = knit(&["deploy", "--server", "http://127.0.0.1:9", "-f", "-"], "{\"nam\": 1}");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("-:1:"), "{}", stderr(&output));
}

#[test]
fn a_server_that_does_not_answer_is_named() {
    let output = knit(&["list", "nodes", "--server", "http://127.0.0.1:9"], "");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("http://127.0.0.1:9"), "{text}");
}

#[test]
fn without_a_server_it_is_said_how_to_name_one() {
    let output = knit(&["list", "nodes", "--mesh-socket", "/nonexistent/mesh.sock"], "");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("KNIT_SERVER"), "{text}");
    assert!(text.contains("/nonexistent/mesh.sock"), "{text}");
}

#[test]
fn a_dev_cluster_that_does_not_run_is_said_so() {
    for command in [["status"].as_slice(), &["kill", "1", "agent"], &["exec", "1", "--", "true"]] {
        let output = knit(&[&["dev", "--instance", "no-such-cluster"], command].concat(), "");
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(stderr(&output).contains("no dev cluster runs here"), "{}", stderr(&output));
    }
}
