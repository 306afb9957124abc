//! The client against a scripted daemon that behaves as a Go daemon may, or as nobody should.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use knit_link::mesh::{MeshClient, MeshError};

use crate::support::Scratch;

const PONG: &str = r#"{"jsonrpc":"2.0","result":{"pong":true,"version":"0.3.0"},"id":ID}"#;

/// Serves one connection for each entry; `ID` in an answer becomes the request's id.
fn daemon(scratch: &Scratch, connections: Vec<Vec<String>>) -> PathBuf {
    let path = scratch.path("scripted.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for answers in connections {
            let (stream, _) = listener.accept().unwrap();
            serve(stream, answers);
        }
    });
    path
}

fn serve(stream: UnixStream, answers: Vec<String>) {
    let mut requests = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut stream = stream;
    for answer in answers {
        let Some(Ok(request)) = requests.next() else { return };
        let request: serde_json::Value = serde_json::from_str(&request).unwrap();
        let answer = answer.replace("ID", &request["id"].to_string());
        // The client may have gone in anger.
        let _ = stream.write_all(answer.as_bytes());
    }
}

#[tokio::test]
async fn what_a_go_daemon_sends_is_understood() {
    let peers = [
        (r#"{"peers":null}"#, 0),
        (r#"{"peers":[]}"#, 0),
        (
            r#"{"peers":[{"pubkey":"b","mesh_ip":"","endpoint":"","last_seen":"2027-01-15T13:30:00+05:30","discovered_via":null},{"pubkey":"a","routable_networks":null,"latency_ms":0,"new":1}]}"#,
            2,
        ),
    ];
    for (result, expected) in peers {
        for line in [
            format!("{{\"jsonrpc\":\"2.0\",\"result\":{result},\"id\":ID}}\n"),
            format!("{{\"jsonrpc\":\"2.0\",\"result\":{result},\"error\":null,\"id\":ID}}\r\n"),
            format!("{{\"jsonrpc\":\"2.0\",\"result\":{result},\"id\":\"ID\"}}\n"),
        ] {
            let scratch = Scratch::new();
            let client = MeshClient::new(daemon(&scratch, vec![vec![line.clone()]]));
            let peers = client.peers().await.unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(peers.len(), expected, "{line}");
            assert!(peers.is_sorted_by_key(|peer| peer.pubkey.clone()));
        }
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let refusal = |code: i32, message: &str| {
        let error = format!(r#"{{"code":{code},"message":"{message}"}}"#);
        vec![format!("{{\"jsonrpc\":\"2.0\",\"error\":{error},\"id\":ID}}\n")]
    };
    let scratch = Scratch::new();
    let path = daemon(
        &scratch,
        vec![
            refusal(-32601, "method not found: mesh.watch"),
            [refusal(-32602, "peer not found: \\u001b[31mx"), vec![format!("{PONG}\n")]].concat(),
        ],
    );
    let client = MeshClient::new(&path);
    assert!(matches!(client.watch().await, Err(MeshError::Unsupported { .. })));
    let error = client.peer("x").await.unwrap_err();
    assert!(error.to_string().ends_with("peer not found: [31mx (code -32602)"), "{error}");
    client.ping().await.unwrap();
}

/// Every way to misbehave is a prompt error, and the next call has a connection of its own.
#[tokio::test]
async fn misbehaviour_is_an_error_and_then_over() {
    let long = format!("\"{}\"\n", "x".repeat(17 * 1024 * 1024));
    for (name, line) in [
        ("garbage", "garbage\n".to_owned()),
        ("an empty line", "\n".to_owned()),
        ("a hang-up", String::new()),
        ("half a line", r#"{"jsonrpc":"2.0","#.to_owned()),
        ("an answer for another id", PONG.replace("ID", "4711") + "\n"),
        ("no id", "{\"jsonrpc\":\"2.0\",\"result\":{}}\n".to_owned()),
        ("neither result nor error", "{\"jsonrpc\":\"2.0\",\"id\":ID}\n".to_owned()),
        (
            "an error without an id",
            "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32700,\"message\":\"failed\"},\"id\":null}\n".to_owned(),
        ),
        ("a result of another shape", "{\"jsonrpc\":\"2.0\",\"result\":[1],\"id\":ID}\n".to_owned()),
        ("an over-long line", long),
    ] {
        let scratch = Scratch::new();
        let path = daemon(&scratch, vec![vec![line], vec![format!("{PONG}\n")]]);
        let client = MeshClient::new(&path);
        let start = Instant::now();
        let error = client.ping().await.expect_err(name);
        assert!(matches!(error, MeshError::Protocol { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains("scripted.sock"), "{name}: {error}");
        assert!(start.elapsed() < Duration::from_secs(4), "{name} took {:?}", start.elapsed());
        let again = client.ping().await;
        assert!(again.is_ok_and(|pong| pong.pong), "after {name}");
    }
}

#[tokio::test]
async fn silence_and_absence_are_bounded() {
    let scratch = Scratch::new();
    let missing = MeshClient::new(scratch.path("nothing.sock"));
    let error = missing.ping().await.unwrap_err();
    assert!(error.to_string().contains("start one with `meshctl join`"), "{error}");

    let path = scratch.path("mute.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let start = Instant::now();
    let error = MeshClient::new(&path).ping().await.unwrap_err();
    assert!(matches!(error, MeshError::Timeout { .. }), "{error:?}");
    assert!((4..8).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}
