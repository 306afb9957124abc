//! Joining by a socket that behaves in every way.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use knit_agent::mesh::{self, MeshAddress};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::support::{TempDir, eventually, until};

/// How the daemon answers now.
#[derive(Debug, Clone)]
enum Manner {
    Silent,
    Garbage,
    EndlessLine,
    OtherId,
    Says(&'static str),
}

/// A daemon of the Go kind: it knows no `mesh.watch`.
fn serve(socket: &Path, manner: Arc<Mutex<Manner>>) {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, Arc::clone(&manner)));
        }
    });
}

async fn converse(stream: UnixStream, manner: Arc<Mutex<Manner>>) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let request: Value = serde_json::from_str(&line).unwrap();
        let manner = manner.lock().unwrap().clone();
        let answer = match manner {
            Manner::Silent => continue,
            Manner::Garbage => "{{{ not json".to_owned(),
            Manner::EndlessLine => "x".repeat(20 * 1024 * 1024),
            Manner::OtherId => json!({"jsonrpc": "2.0", "id": 4_711, "result": {}}).to_string(),
            Manner::Says(mesh_ip) => proper(&request, mesh_ip).to_string(),
        };
        if writer.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

fn proper(request: &Value, mesh_ip: &str) -> Value {
    let result = match request["method"].as_str().unwrap() {
        "daemon.ping" => json!({"pong": true, "version": "v0"}),
        "daemon.status" => json!({"mesh_ip": mesh_ip, "pubkey": "k", "interface": "wg0"}),
        _ => {
            let error = json!({"code": -32601, "message": "Method not found"});
            return json!({"jsonrpc": "2.0", "id": request["id"], "error": error});
        }
    };
    json!({"jsonrpc": "2.0", "id": request["id"], "result": result})
}

fn follow(socket: &Path) -> watch::Receiver<Option<MeshAddress>> {
    let sender = watch::Sender::new(None);
    let receiver = sender.subscribe();
    tokio::spawn(mesh::follow(Some(socket.to_owned()), sender));
    receiver
}

#[tokio::test]
async fn it_joins_once_the_socket_comes_and_follows_the_address() {
    let dir = TempDir::new();
    let socket = dir.path().join("mesh.sock");
    let address = follow(&socket);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(*address.borrow(), None, "there is no socket yet");

    let manner = Arc::new(Mutex::new(Manner::Says("")));
    serve(&socket, Arc::clone(&manner));
    *manner.lock().unwrap() = Manner::Says("203.0.113.9");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(*address.borrow(), None, "that address is on no interface");
    *manner.lock().unwrap() = Manner::Says("127.0.0.1");
    let joined = eventually("joined", || address.borrow().clone()).await;
    assert_eq!((joined.ip.to_string(), joined.interface), ("127.0.0.1".into(), "lo".into()));

    // Rubbish later on changes nothing: the tunnel may well be alive.
    *manner.lock().unwrap() = Manner::Garbage;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(address.borrow().is_some());
}

#[tokio::test]
async fn whatever_the_socket_says_it_neither_hangs_nor_gives_up() {
    for manner in [Manner::Silent, Manner::Garbage, Manner::EndlessLine, Manner::OtherId] {
        let dir = TempDir::new();
        let socket = dir.path().join("mesh.sock");
        let shared = Arc::new(Mutex::new(manner.clone()));
        serve(&socket, Arc::clone(&shared));
        let address = follow(&socket);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(*address.borrow(), None, "{manner:?}");
        *shared.lock().unwrap() = Manner::Says("127.0.0.1");
        until(&format!("joined after {manner:?}"), || address.borrow().is_some()).await;
    }
}
