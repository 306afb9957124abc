//! NATS tokens: who may connect, and what they may say and hear.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use knit_rpc::id::NodeId;
use knit_rpc::subject;
use nkeys::KeyPair;
use serde_json::{Value, json};

#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    #[error("a NATS token could not be signed")]
    Sign(#[source] nkeys::error::Error),
}

/// The operator's token, signed by itself.
pub fn operator(operator: &KeyPair, issued_at: u64) -> Result<String, JwtError> {
    let nats = json!({"type": "operator", "version": 2});
    token(operator, &operator.public_key(), "knit", &nats, issued_at, None)
}

/// An account's token, signed by the operator. Tokens of `revoked` users that were issued at that
/// second or before are refused.
pub fn account(
    operator: &KeyPair,
    account: &KeyPair,
    name: &str,
    jetstream: bool,
    revoked: &BTreeMap<String, u64>,
    issued_at: u64,
) -> Result<String, JwtError> {
    let storage = if jetstream { -1 } else { 0 };
    let mut nats = json!({
        "type": "account",
        "version": 2,
        "limits": {
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1,
            "mem_storage": storage, "disk_storage": storage, "streams": storage,
            "consumer": storage,
        },
        "default_permissions": {"pub": {}, "sub": {}},
    });
    if let Value::Object(claims) = &mut nats
        && !revoked.is_empty()
    {
        claims.insert("revocations".to_owned(), json!(revoked));
    }
    token(operator, &account.public_key(), name, &nats, issued_at, None)
}

/// The server's own token: all of the account.
pub fn server_user(
    account: &KeyPair,
    user: &str,
    issued_at: u64,
    expires: u64,
) -> Result<String, JwtError> {
    token(
        account,
        user,
        "knit-server",
        &user_claims(&json!({}), &json!({})),
        issued_at,
        Some(expires),
    )
}

/// A node's token: its own subjects and nothing else.
pub fn node_user(
    account: &KeyPair,
    user: &str,
    node: &NodeId,
    issued_at: u64,
    expires: u64,
) -> Result<String, JwtError> {
    let publish = json!({"allow": [subject::heartbeat(node), subject::status(node), subject::direct_get(node)]});
    let subscribe = json!({"allow": [
        subject::tasks(node),
        subject::BROADCAST,
        format!("{}.>", subject::inbox_prefix(node)),
    ]});
    let claims = user_claims(&publish, &subscribe);
    token(account, user, node.as_str(), &claims, issued_at, Some(expires))
}

/// Whether this is a token that `account` gave to a node's key at some time; it may have expired.
pub fn is_node_user(account: &KeyPair, user: &str, node: &NodeId, token: &str) -> bool {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { return false };
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let signed = format!("{header}.{claims}");
    let is_ours = decoded(signature)
        .is_some_and(|signature| account.verify(signed.as_bytes(), &signature).is_ok());
    let claims: Option<Value> =
        decoded(claims).and_then(|claims| serde_json::from_slice(&claims).ok());
    is_ours && claims.is_some_and(|claims| claims["sub"] == user && claims["name"] == node.as_str())
}

fn user_claims(publish: &Value, subscribe: &Value) -> Value {
    json!({
        "type": "user",
        "version": 2,
        "subs": -1, "data": -1, "payload": -1,
        "pub": publish,
        "sub": subscribe,
    })
}

/// Times are in seconds since the Unix epoch, as NATS wants them.
fn token(
    issuer: &KeyPair,
    subject: &str,
    name: &str,
    nats: &Value,
    issued_at: u64,
    expires: Option<u64>,
) -> Result<String, JwtError> {
    let mut claims = json!({
        "jti": format!("{subject}-{issued_at}"),
        "iat": issued_at,
        "iss": issuer.public_key(),
        "name": name,
        "sub": subject,
        "nats": nats,
    });
    if let (Some(expires), Value::Object(claims)) = (expires, &mut claims) {
        claims.insert("exp".to_owned(), json!(expires));
    }
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = issuer.sign(signed.as_bytes()).map_err(JwtError::Sign)?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
