//! A provider that answers whatever the test says, rightly signed or not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use openidconnect::core::{
    CoreEdDsaPrivateSigningKey, CoreHmacKey, CoreJsonWebKeySet, CoreJwsSigningAlgorithm,
};
use openidconnect::{JsonWebKeyId, PrivateSigningKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use super::{CLIENT_SECRET, server};
use crate::support::browser::Browser;

const ACCESS_TOKEN: &str = "an access token";

/// What it answers, and what it was asked.
#[derive(Default)]
struct Script {
    id_token: Option<String>,
    user_info: Value,
    token_request: BTreeMap<String, String>,
}

struct Scripted {
    issuer: String,
    script: Arc<Mutex<Script>>,
}

/// Signs as the provider does, or as somebody else with another seed.
fn key(seed: u8) -> CoreEdDsaPrivateSigningKey {
    // PKCS 8 around the 32 bytes of an Ed25519 seed.
    let mut der = hex::decode("302e020100300506032b657004220420").expect("hex");
    der.extend([seed; 32]);
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der)
    );
    let id = JsonWebKeyId::new("one".to_owned());
    CoreEdDsaPrivateSigningKey::from_ed25519_pem(&pem, Some(id)).expect("a key")
}

impl Scripted {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let script = Arc::new(Mutex::new(Script::default()));
        let at = |path: &str| format!("{issuer}{path}");
        let metadata = json!({
            "issuer": issuer, "authorization_endpoint": at("/auth"), "token_endpoint": at("/token"),
            "jwks_uri": at("/jwks"), "userinfo_endpoint": at("/me"),
            "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["EdDSA", "none", "HS256"],
        });
        let keys = CoreJsonWebKeySet::new(vec![key(1).as_verification_key()]);
        let keys = serde_json::to_value(keys).expect("json");
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(move || async { Json(metadata) }))
            .route("/jwks", get(move || async { Json(keys) }))
            .route("/token", post(token))
            .route("/me", get(me))
            .with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { issuer, script }
    }
}

async fn token(State(script): State<Arc<Mutex<Script>>>, body: String) -> Json<Value> {
    let mut script = script.lock().expect("the script");
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    script.token_request = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let mut answer = json!({"access_token": ACCESS_TOKEN, "token_type": "Bearer"});
    if let Some(token) = &script.id_token {
        answer["id_token"] = token.as_str().into();
    }
    Json(answer)
}

async fn me(State(script): State<Arc<Mutex<Script>>>) -> Json<Value> {
    Json(script.lock().expect("the script").user_info.clone())
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token, signed by who has this seed.
fn signed(claims: &Value, seed: u8) -> String {
    let header = json!({"alg": "EdDSA", "kid": "one", "typ": "JWT"});
    let text = format!("{}.{}", part(&header), part(claims));
    let signature = key(seed).sign(&CoreJwsSigningAlgorithm::EdDsa, text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.expect("a signature")))
}

/// A token, signed with what both sides know.
fn by_secret(claims: &Value) -> String {
    let text = format!("{}.{}", part(&json!({"alg": "HS256"})), part(claims));
    let signature = CoreHmacKey::new(CLIENT_SECRET)
        .sign(&CoreJwsSigningAlgorithm::HmacSha256, text.as_bytes())
        .expect("a signature");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// One part of the query of where the browser is sent.
fn asked(location: &str, name: &str) -> String {
    let start = format!("{name}=");
    let query = location.split_once('?').expect("a query").1;
    let found = query.split('&').find_map(|pair| pair.strip_prefix(&start));
    found.expect("it is there").to_owned()
}

/// What a good token says.
fn claims(issuer: &str, nonce: &str) -> Value {
    let now = knit_runtime::clock::now().as_millis() / 1000;
    json!({
        "iss": issuer, "aud": "knit", "sub": "eva", "nonce": nonce, "iat": now, "exp": now + 300,
        "groups": ["knit-admins"],
    })
}

/// Logs in against a provider that answers with this token and this user info; with the status and
/// whether it was a success.
async fn outcome(make: impl Fn(&Value) -> Option<String>, user_info: Value) -> (u16, bool, String) {
    let provider = Scripted::start().await;
    let (server, _home) = server(&provider.issuer).await;
    let mut browser = Browser::new(&server.url);
    let begun = browser.get("/login/oidc").await;
    assert_eq!(begun.status, 303, "{}", begun.text);
    let (state, nonce) = (asked(begun.location(), "state"), asked(begun.location(), "nonce"));
    assert_eq!(asked(begun.location(), "code_challenge_method"), "S256");
    {
        let mut script = provider.script.lock().expect("the script");
        script.id_token = make(&claims(&provider.issuer, &nonce));
        script.user_info = user_info;
    }
    let page = browser.get(&format!("/login/oidc/callback?code=c&state={state}")).await;
    let request = provider.script.lock().expect("the script").token_request.clone();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&request["code_verifier"]));
    assert_eq!(challenge, asked(begun.location(), "code_challenge"), "the verifier fits");
    let is_in = browser.cookies.contains_key("__Host-knit_session");
    assert_eq!(is_in, browser.get("/v1/whoami").await.status == 200);
    server.stop().await;
    (page.status.as_u16(), is_in, page.text)
}

fn with(claims: &Value, key: &str, value: impl Into<Value>) -> Value {
    let mut changed = claims.clone();
    changed[key] = value.into();
    changed
}

#[tokio::test]
async fn a_good_word_of_the_scripted_provider_is_believed() {
    let good = |claims: &Value| Some(signed(claims, 1));
    let (status, is_in, text) = outcome(good, json!({"sub": "eva"})).await;
    assert!((status, is_in) == (200, true), "{status}: {text}");
}

#[tokio::test]
async fn what_is_wrong_with_a_token_keeps_everybody_out() {
    type Make = fn(&Value) -> Option<String>;
    let hostile: [(&str, Make); 11] = [
        ("the nonce of another login", |c| Some(signed(&with(c, "nonce", "other"), 1))),
        ("no nonce", |c| Some(signed(&with(c, "nonce", Value::Null), 1))),
        ("for another", |c| Some(signed(&with(c, "aud", "other"), 1))),
        ("for another as well", |c| Some(signed(&with(c, "aud", json!(["knit", "other"])), 1))),
        ("by another issuer", |c| Some(signed(&with(c, "iss", "https://evil.example"), 1))),
        ("expired", |c| {
            let past = c["iat"].as_u64().expect("a time") - 1;
            Some(signed(&with(c, "exp", past), 1))
        }),
        ("signed by nobody", |c| Some(format!("{}.{}.", part(&json!({"alg": "none"})), part(c)))),
        ("signed with the shared secret", |c| Some(by_secret(c))),
        ("signed by another", |c| Some(signed(c, 2))),
        ("of another access token", |c| Some(signed(&with(c, "at_hash", "AAAA"), 1))),
        ("none at all", |_| None),
    ];
    for (what, make) in hostile {
        let (status, is_in, text) = outcome(make, json!({"sub": "eva"})).await;
        assert_eq!((status, is_in), (401, false), "{what}: {text}");
        assert!(text.contains("not to be believed"), "{what}: {text}");
    }
}

#[tokio::test]
async fn user_info_adds_and_replaces_nothing_and_speaks_of_the_same_subject() {
    let nobody = |claims: &Value| Some(signed(&with(claims, "groups", json!([])), 1));
    let greedy = json!({"sub": "eva", "groups": ["knit-admins"]});
    let (status, is_in, text) = outcome(nobody, greedy.clone()).await;
    assert_eq!((status, is_in), (403, false), "{text}");
    let silent = |claims: &Value| {
        let mut claims = claims.clone();
        claims.as_object_mut().expect("a map").remove("groups");
        Some(signed(&claims, 1))
    };
    assert_eq!(outcome(silent, greedy).await.0, 200);
    let of_another = json!({"sub": "mallory", "groups": ["knit-admins"]});
    let (status, is_in, text) = outcome(silent, of_another).await;
    assert_eq!((status, is_in), (401, false), "{text}");
}
