//! Debian's docker-registry with a user of its own, and one by script that gives tokens.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::eventually;
use super::process::free_port;
use super::tls::Certificate;

pub(crate) const USER: &str = "ci";

/// A real registry; ends when dropped.
pub(crate) struct Registry {
    process: Child,
    pub(crate) host: String,
}

impl Registry {
    pub(crate) async fn start(dir: &Path, password: &str, tls: Option<&Certificate>) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let users = dir.join("users");
        set_password(&users, password);
        let mut http = json!({"addr": address.to_string()});
        if let Some(tls) = tls {
            http["tls"] = json!({"certificate": tls.cert, "key": tls.key});
        }
        // YAML reads JSON.
        let config = json!({
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": dir.join("images")}},
            "http": http,
            "auth": {"htpasswd": {"realm": "tests", "path": users}},
        });
        let path = dir.join("registry.json");
        std::fs::write(&path, config.to_string()).expect("written");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs Debian's package docker-registry");
        let registry = Self { process, host: address.to_string() };
        eventually("the registry listens", || async { TcpStream::connect(address).ok() }).await;
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// As `htpasswd -B` writes it: the C library knows bcrypt.
fn set_password(users: &Path, password: &str) {
    let script = "print crypt($ARGV[0], '$2y$05$abcdefghijklmnopqrstuu')";
    let output = Command::new("perl").args(["-e", script, password]).output().expect("perl");
    let hash = String::from_utf8(output.stdout).expect("text");
    assert!(hash.starts_with("$2y$"), "{hash}");
    std::fs::write(users, format!("{USER}:{hash}\n")).expect("written");
}

/// A registry that gives tokens, and what it was sent.
#[derive(Clone)]
pub(crate) struct Tokens {
    pub(crate) host: String,
    realm: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tokens {
    /// With its logins at this address, or at its own.
    pub(crate) async fn start(realm: Option<&str>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let own = format!("http://{host}/token");
        let realm = realm.map_or(own, str::to_owned);
        let registry = Self { host, realm, asked: Arc::default() };
        let router = Router::new()
            .route("/v2/", get(challenge))
            .route("/token", get(token))
            .with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        registry
    }

    /// The queries of its logins.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

async fn challenge(State(registry): State<Tokens>) -> impl IntoResponse {
    let value = format!("Bearer realm=\"{}\",service=\"tests\"", registry.realm);
    (StatusCode::UNAUTHORIZED, [("www-authenticate", value)])
}

async fn token(
    State(registry): State<Tokens>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> impl IntoResponse {
    registry.asked.lock().expect("nobody panicked").push(query.unwrap_or_default());
    // ci:open
    if headers.get("authorization").is_some_and(|value| value == "Basic Y2k6b3Blbg==") {
        return Json(json!({"token": "for-minutes", "expires_in": 300})).into_response();
    }
    StatusCode::UNAUTHORIZED.into_response()
}
