//! Who is slow, wordy or many keeps nobody else from being answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use knit_link::bus::MemoryBus;
use knit_server::http::connections::{Bounds, answer};
use knit_server::http::listen::try_bind;
use reqwest::Client;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::support::{Home, Server};

const OF_ADDRESS: usize = 3;

/// Something that answers within these bounds, until the token is cancelled.
fn answering(head_within: Duration) -> (SocketAddr, CancellationToken) {
    let any = SocketAddr::new([0, 0, 0, 0].into(), 0);
    let listener = try_bind(any).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let bounds = Bounds { head_within, of_address: OF_ADDRESS };
    let (router, stop) =
        (Router::new().route("/", get(|| async { "here" })), CancellationToken::new());
    tokio::spawn(answer(listener, router, bounds, stop.clone()));
    (SocketAddr::new([127, 0, 0, 1].into(), port), stop)
}

/// Whether the other end hangs up within this time.
async fn ends_within(stream: &mut TcpStream, time: Duration) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(time, stream.read_to_end(&mut rest)).await.is_ok()
}

async fn is_answered(stream: &mut TcpStream) -> bool {
    let sent = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut answer = [0; 15];
    sent.is_ok() && stream.read_exact(&mut answer).await.is_ok() && answer.ends_with(b"200 OK")
}

#[tokio::test]
async fn who_does_not_end_the_head_of_a_request_is_cut_off() {
    let (at, stop) = answering(Duration::from_millis(500));
    let mut silent = TcpStream::connect(at).await.unwrap();
    let mut slow = TcpStream::connect(at).await.unwrap();
    let start = Instant::now();
    slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let (mut read, mut write) = slow.into_split();
    let drip = tokio::spawn(async move {
        while write.write_all(b"X-A: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut rest = Vec::new();
    let _ = read.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(ends_within(&mut silent, Duration::from_secs(20)).await);
    drip.await.unwrap();
    stop.cancel();
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let (at, stop) = answering(Duration::from_mins(1));
    let mut first = Vec::new();
    for _ in 0..OF_ADDRESS {
        let mut stream = TcpStream::connect(at).await.unwrap();
        assert!(is_answered(&mut stream).await);
        first.push(stream);
    }
    let mut more = TcpStream::connect(at).await.unwrap();
    assert!(!is_answered(&mut more).await, "one more than that");
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(at).await.unwrap();
    assert!(is_answered(&mut other).await, "another address");
    drop(first);
    let mut again = TcpStream::connect(at).await.unwrap();
    while !is_answered(&mut again).await {
        again = TcpStream::connect(at).await.unwrap();
    }
    stop.cancel();
}

#[tokio::test]
async fn what_is_too_large_or_too_deep_is_refused_in_the_one_form_of_errors() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let deep = format!(r#"{{"name":"a","image":"a:1","env":{}}}"#, nested(100_000));
    let deep_yaml = format!("name: a\nimage: a:1\nenv: {}", nested(100_000));
    let deep_toml = format!("name = 'a'\nimage = 'a:1'\nenv = {}", nested(100_000));
    for (path, kind, body, status) in [
        ("deployments", "application/json", deep.clone(), 400),
        ("deployments", "application/yaml", deep_yaml, 400),
        ("deployments", "application/toml", deep_toml, 400),
        ("tokens", "application/json", deep.clone(), 400),
        ("networks", "application/json", deep, 400),
        ("nodes/register", "application/json", nested(100_000), 403),
        ("deployments", "application/json", "x".repeat(2 * 1024 * 1024), 413),
        ("nodes/register", "application/json", "x".repeat(2 * 1024 * 1024), 413),
    ] {
        let request = Client::new().post(format!("{}/v1/{path}", server.url));
        let request = request.bearer_auth(server.token.expose()).header("content-type", kind);
        let answer = request.body(body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path} {kind}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["request_id"].as_str().unwrap().len(), 16, "{body}");
    }
    server.stop().await;
}
