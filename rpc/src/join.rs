//! What lets a new host in: a token that works once, and the proof that a node makes with it.
//!
//! The token is a key, not a word: the server keeps its public half, the node signs its own public
//! key with it and keeps the token to itself. Whoever listens, or answers in the server's place,
//! learns nothing that would let another host in.

use std::collections::BTreeMap;
use std::fmt;

use nkeys::{KeyPair, KeyPairType};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;
use crate::id::{ClusterId, NodeId};
use crate::signed::{self, Context, SignedError};

const START: &str = "knit-join";
/// A join token holds for an hour unless somebody says otherwise, in seconds.
pub const JOIN_TTL_DEFAULT_SECS: u64 = 3600;
/// And for 30 days at most.
pub const JOIN_TTL_MAX_SECS: u64 = 30 * 24 * 3600;

/// A join token as its holder has it: `knit-join_SEED_CLUSTER_SERVERKEY`.
///
/// It carries the server's key, so that the node believes only *this* server.
#[derive(Clone)]
pub struct JoinToken {
    key: std::sync::Arc<KeyPair>,
    seed: String,
    pub cluster: ClusterId,
    /// The server's public signing key (an nkey, `N…`).
    pub server_key: String,
}

/// Why a text is no join token. What was given is not repeated: it may be half a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("that is no join token: `knit node token` makes one, and it begins with knit-join_")]
pub struct NoJoinToken;

/// What a node signs with the key of its join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinClaim {
    pub node: NodeId,
    /// The node's own public nkey (`U…`).
    pub nkey: String,
    pub wg_pubkey: String,
}

/// A claim with its signature, in a request to register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinProof {
    /// The public half of the join token (`U…`): which one it is.
    pub token: String,
    /// A `JoinClaim`, signed by it (`signed::Context::Join`).
    pub claim: String,
}

/// `POST /join-tokens`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewJoinToken {
    /// Seconds until it lets nobody in: an hour when absent, 30 days at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// Labels that the node gets; they go before the agent's own.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The only WireGuard key whose host it lets in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wg_pubkey: Option<String>,
}

/// A new join token: the only answer that ever holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MintedJoinToken {
    pub token: String,
    #[schema(value_type = u64)]
    pub expires_at: Timestamp,
}

impl JoinToken {
    /// A new one.
    pub fn new(cluster: ClusterId, server_key: String) -> Result<Self, nkeys::error::Error> {
        let key = KeyPair::new_user();
        let seed = key.seed()?;
        Ok(Self { key: key.into(), seed, cluster, server_key })
    }

    /// Reads one; white space around it does not matter.
    pub fn parse(text: &str) -> Result<Self, NoJoinToken> {
        let parts: Vec<&str> = text.trim().split('_').collect();
        let [START, seed, cluster, server_key] = parts.as_slice() else { return Err(NoJoinToken) };
        let key = KeyPair::from_seed(seed).map_err(|_| NoJoinToken)?;
        let server = KeyPair::from_public_key(server_key).map_err(|_| NoJoinToken)?;
        let is_right = key.key_pair_type() == KeyPairType::User
            && server.key_pair_type() == KeyPairType::Server;
        let cluster = ClusterId::parse(*cluster).map_err(|_| NoJoinToken)?;
        if !is_right {
            return Err(NoJoinToken);
        }
        let (seed, server_key) = ((*seed).to_owned(), (*server_key).to_owned());
        Ok(Self { key: key.into(), seed, cluster, server_key })
    }

    /// The whole token: handle it as the secret it is.
    pub fn expose(&self) -> String {
        format!("{START}_{}_{}_{}", self.seed, self.cluster, self.server_key)
    }

    /// What the server keeps of it.
    pub fn public_key(&self) -> String {
        self.key.public_key()
    }

    /// Signs a node's claim.
    pub fn prove(&self, claim: &JoinClaim) -> Result<JoinProof, SignedError> {
        let bytes = signed::sign(&self.key, Context::Join, claim)?;
        Ok(JoinProof {
            token: self.public_key(),
            claim: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.public_key())
    }
}

impl JoinProof {
    /// Whether it was made with the token for this very node.
    pub fn is_for(&self, claim: &JoinClaim) -> bool {
        let proven = signed::verify::<JoinClaim>(&self.token, Context::Join, self.claim.as_bytes());
        proven.is_ok_and(|proven| proven == *claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        let server = KeyPair::new_server().public_key();
        JoinToken::new(ClusterId::from_bytes([1; 16]), server).unwrap()
    }

    fn claim(node: u8) -> JoinClaim {
        JoinClaim {
            node: NodeId::from_bytes([node; 16]),
            nkey: KeyPair::new_user().public_key(),
            wg_pubkey: "k".to_owned(),
        }
    }

    #[test]
    fn a_join_token_reads_as_it_was_written_and_shows_no_secret() {
        let token = token();
        let read = JoinToken::parse(&format!("{}\n", token.expose())).unwrap();
        assert_eq!(read.public_key(), token.public_key());
        assert_eq!((&read.cluster, &read.server_key), (&token.cluster, &token.server_key));
        assert!(!format!("{read:?}").contains(&token.seed));
        let good = token.expose();
        for bad in
            ["", "knit-join_", &good[1..], &good[..good.len() - 1], &good.replace("_SU", "_SA")]
        {
            assert!(JoinToken::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proof_is_for_one_node_and_by_one_token() {
        let (token, other) = (token(), token());
        let (own, stranger) = (claim(1), claim(1));
        let proof = token.prove(&own).unwrap();
        assert!(proof.is_for(&own));
        assert!(!proof.is_for(&stranger), "another key for the same node");
        assert!(!proof.is_for(&JoinClaim { wg_pubkey: "x".to_owned(), ..own.clone() }));
        let relabelled = JoinProof { token: other.public_key(), ..proof };
        assert!(!relabelled.is_for(&own));
    }
}
