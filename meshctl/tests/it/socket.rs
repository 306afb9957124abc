//! The daemon's socket file and its lines.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use crate::support::Lan;

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_private_replaces_a_stale_one_and_is_never_stolen() {
    let lan = Lan::new(2);
    drop(UnixListener::bind(lan.socket(1)).unwrap());
    let one = lan.join(1, &[]);
    one.mesh_ip().await;
    let mode = fs::metadata(lan.socket(1)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut thief = lan.join_at(2, &lan.socket(1), &[]);
    assert!(!thief.ends());
    let log = thief.log();
    assert!(log.contains("a mesh daemon answers on"), "{log}");
    assert_eq!(lan.mesh_interface(2), "", "it touched nothing");
    one.client.ping().await.unwrap();

    fs::write(lan.scratch.path("file"), "precious").unwrap();
    let file = lan.scratch.path("file");
    let mut careless = lan.join_at(2, &file, &[]);
    assert!(!careless.ends());
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_answered_in_order_and_an_over_long_one_ends_the_connection() {
    let lan = Lan::new(1);
    let one = lan.join(1, &[]);
    one.mesh_ip().await;
    let dial = || {
        let stream = UnixStream::connect(lan.socket(1)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    };
    let ping = |id: usize, pad: usize| {
        let start = format!(r#"{{"jsonrpc":"2.0","method":"daemon.ping","id":{id},"pad":""#);
        format!("{start}{}\"}}", "x".repeat(pad - start.len() - 2))
    };

    let mut stream = dial();
    let request = format!("{}\r\n{}\nnonsense\n{}", ping(1, 100), ping(2, 65_535), ping(3, 100));
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answers: Vec<String> = BufReader::new(&stream).lines().map(Result::unwrap).collect();
    let ends: Vec<&str> = answers.iter().map(|line| &line[line.len() - 7..]).collect();
    assert_eq!(
        ends,
        [r#","id":1}"#, r#","id":2}"#, r#"d":null}"#, r#","id":3}"#].map(|e| &e[e.len() - 7..])
    );

    let mut stream = dial();
    stream.write_all(ping(4, 65_536).as_bytes()).unwrap();
    let _ = stream.write_all(b"\n");
    let mut answer = Vec::new();
    // A reset is the other way to see the end.
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    one.client.ping().await.unwrap();
}
