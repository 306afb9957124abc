//! The sealed datagram: `{"type":T,"nonce":N,"ciphertext":C}`, AES-256-GCM under the gossip key.
//!
//! The type stands outside the seal: whoever relays a datagram can relabel it. What a message is
//! must therefore be plausible from its plaintext, see [`crate::message`].

use aes_gcm::aead::Aead as _;
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub const PROTOCOL: &str = "wgmesh-v1";
pub const NONCE_LEN: usize = 12;
/// How far a sender's clock may be off.
const CLOCK_SKEW_MAX_SECS: u64 = 600;

/// What a datagram claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Hello,
    Reply,
    Announce,
    Goodbye,
    Offer,
    Start,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "HELLO",
            Self::Reply => "REPLY",
            Self::Announce => "ANNOUNCE",
            Self::Goodbye => "GOODBYE",
            Self::Offer => "RENDEZVOUS_OFFER",
            Self::Start => "RENDEZVOUS_START",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all =
            [Self::Hello, Self::Reply, Self::Announce, Self::Goodbye, Self::Offer, Self::Start];
        all.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Why a datagram was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEnvelope {
    #[error("not an envelope of this protocol")]
    Shape,
    #[error("sealed with another key, or damaged")]
    Seal,
    #[error("not a message of {PROTOCOL}")]
    Protocol,
    #[error("the sender's clock is {0} s off; {CLOCK_SKEW_MAX_SECS} s are allowed")]
    Clock(i64),
}

/// An opened datagram.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// `None` for a type that this version does not know.
    pub kind: Option<Kind>,
    pub nonce: [u8; NONCE_LEN],
    pub timestamp: i64,
    pub body: Map<String, Value>,
    /// The very bytes of `body`: a signature covers these.
    pub plaintext: Vec<u8>,
    /// It was sealed by the secret that follows the present one.
    pub by_successor: bool,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    #[serde(rename = "type", default)]
    kind: String,
    nonce: String,
    ciphertext: String,
}

/// Seals a plaintext. A nonce must never be used twice: it is 12 fresh random bytes.
pub fn seal(key: &[u8; 32], nonce: [u8; NONCE_LEN], kind: Kind, plaintext: &[u8]) -> Vec<u8> {
    // Sealing a buffer in memory fails only beyond AES-GCM's 64 GiB.
    let sealed = Aes256Gcm::new(key.into())
        .encrypt(Nonce::from_slice(&nonce), plaintext)
        .unwrap_or_default();
    let envelope = Envelope {
        kind: kind.as_str().to_owned(),
        nonce: STANDARD.encode(nonce),
        ciphertext: STANDARD.encode(sealed),
    };
    serde_json::to_vec(&envelope).unwrap_or_default()
}

/// The datagram length of a plaintext of `plaintext_len` bytes.
pub fn sealed_len(kind: Kind, plaintext_len: usize) -> usize {
    let overhead = r#"{"type":"","nonce":"AAECAwQFBgcICQoL","ciphertext":""}"#.len();
    overhead + kind.as_str().len() + (plaintext_len + 16).div_ceil(3) * 4
}

/// Opens a datagram and checks protocol and clock.
pub fn open(key: &[u8; 32], datagram: &[u8], now_unix: i64) -> Result<Opened, BadEnvelope> {
    let envelope: Envelope = serde_json::from_slice(datagram).map_err(|_| BadEnvelope::Shape)?;
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| BadEnvelope::Shape);
    let nonce =
        <[u8; NONCE_LEN]>::try_from(decode(&envelope.nonce)?).map_err(|_| BadEnvelope::Shape)?;
    let plaintext = Aes256Gcm::new(key.into())
        .decrypt(Nonce::from_slice(&nonce), decode(&envelope.ciphertext)?.as_slice())
        .map_err(|_| BadEnvelope::Seal)?;
    let body: Map<String, Value> =
        serde_json::from_slice(&plaintext).map_err(|_| BadEnvelope::Protocol)?;
    if body.get("protocol").and_then(Value::as_str) != Some(PROTOCOL) {
        return Err(BadEnvelope::Protocol);
    }
    // A float is refused even when it is whole, as the Go decoder does.
    let timestamp = body.get("timestamp").and_then(Value::as_i64).ok_or(BadEnvelope::Protocol)?;
    if timestamp.abs_diff(now_unix) > CLOCK_SKEW_MAX_SECS {
        return Err(BadEnvelope::Clock(timestamp.saturating_sub(now_unix)));
    }
    Ok(Opened {
        kind: Kind::parse(&envelope.kind),
        nonce,
        timestamp,
        body,
        plaintext,
        by_successor: false,
    })
}
