//! The configuration of nats-server: JSON, which it reads as its own language.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::jwt;
use crate::identity::Identity;

/// Bytes of one message, at most.
const MESSAGE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of all streams, at most.
const STREAM_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// How long a client may take to agree on TLS.
const TLS_TIMEOUT_SECS: u64 = 5;

/// What NATS shows to who connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Where NATS listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub client: Ipv4Addr,
    pub client_port: u16,
    /// On loopback.
    pub monitor_port: u16,
}

/// Returns the configuration.
pub fn config(
    directory: &Path,
    identity: &Identity,
    addresses: Addresses,
    tls: Option<&Tls>,
    revoked: &BTreeMap<String, u64>,
    issued_at: u64,
) -> Result<Value, jwt::JwtError> {
    let mut config = json!({
        "server_name": format!("knit-{}", &identity.cluster.as_str()[..8]),
        "host": addresses.client.to_string(),
        "port": addresses.client_port,
        "http": format!("127.0.0.1:{}", addresses.monitor_port),
        "pid_file": directory.join("nats-server.pid"),
        "max_payload": MESSAGE_BYTES_MAX,
        "ping_interval": "10s",
        "ping_max": 2,
        "write_deadline": "10s",
        "jetstream": {
            "store_dir": directory.join("streams"),
            "max_file_store": STREAM_BYTES_MAX,
        },
    });
    if let (Value::Object(config), Some(tls)) = (&mut config, tls) {
        let tls = json!({"cert_file": tls.cert, "key_file": tls.key, "timeout": TLS_TIMEOUT_SECS});
        config.insert("tls".to_owned(), tls);
    }
    let trust = trust(identity, revoked, issued_at)?;
    if let (Value::Object(config), Value::Object(trust)) = (&mut config, trust) {
        config.extend(trust);
    }
    Ok(config)
}

/// What any NATS server has to know to let our agents in; it holds no secret.
pub fn trust(
    identity: &Identity,
    revoked: &BTreeMap<String, u64>,
    issued_at: u64,
) -> Result<Value, jwt::JwtError> {
    let account = identity.account.public_key();
    let system = identity.system_account.public_key();
    Ok(json!({
        "operator": jwt::operator(&identity.operator, issued_at)?,
        "system_account": system,
        "resolver": "MEMORY",
        "resolver_preload": {
            account: jwt::account(
                &identity.operator,
                &identity.account,
                "knit",
                true,
                revoked,
                issued_at,
            )?,
            system: jwt::account(
                &identity.operator,
                &identity.system_account,
                "system",
                false,
                &BTreeMap::new(),
                issued_at,
            )?,
        },
    }))
}
