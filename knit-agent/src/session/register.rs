//! Finds the server and registers with it.
//!
//! Invariant: nobody is believed for having a mesh address. Once registered, only the holder of
//! the pinned key is; and an answer is believed only for the request it answers.

use knit_link::http::{ApiClient, HttpError, discover};
use knit_link::mesh::{MeshClient, find_socket};
use knit_rpc::api::{API_PORT, Ping, RegisterRequest, RegisterResponse};
use knit_rpc::id::ClusterId;
use knit_rpc::join::{JoinClaim, JoinProof, JoinToken};
use knit_rpc::signed::{self, Context, SignedError};
use std::net::Ipv4Addr;

use crate::config::Server;
use crate::join_token::{self, JoinTokenError};
use crate::loops::assignments;
use crate::mesh::MeshAddress;
use crate::registration::Registration;
use crate::shared::Shared;

/// Hosts of the mesh that are asked for a server, at most.
const CANDIDATES_MAX: usize = 2_000;
/// The status with which a server turns a node away.
const FORBIDDEN: u16 = 403;

#[derive(Debug, thiserror::Error)]
pub(super) enum RegisterError {
    #[error(
        "no host of the mesh runs a Knit server ({asked} asked): start one with `knit-server run`, or name it with --server"
    )]
    NoServer { asked: usize },
    #[error("several Knit servers answer in this mesh ({urls}): name one with --server")]
    Several { urls: String },
    #[error(
        "the server at {url} has key {found}, but this node is registered with the server of cluster {cluster}, key {pinned}: if that server is gone for good, remove registration.json and assignment.json from the agent's state directory"
    )]
    OtherKey { url: String, found: String, pinned: String, cluster: ClusterId },
    #[error(
        "the server at {url} has key {found}, and the join token is of the server with key {expected}: nothing was sent"
    )]
    OtherToken { url: String, found: String, expected: String },
    #[error(transparent)]
    JoinToken(#[from] JoinTokenError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the request could not be made: {0}")]
    Make(String),
    #[error("the answer of {url} cannot be believed")]
    Answer { url: String, source: SignedError },
    #[error("the answer of {url} cannot be believed: {problem}")]
    Mismatch { url: String, problem: &'static str },
}

pub(super) async fn register(
    shared: &Shared,
    address: &MeshAddress,
) -> Result<Registration, RegisterError> {
    let known = shared.registration.borrow().clone();
    let token = token(shared, known.is_some())?;
    let pinned = pinned(known.as_ref(), token.as_ref());
    let (client, ping) = find(shared, address, known.as_ref(), pinned).await?;
    let url = client.base_url().to_owned();
    if let Some(token) = token.as_ref().filter(|token| token.server_key != ping.server_key) {
        let expected = token.server_key.clone();
        return Err(RegisterError::OtherToken { url, found: ping.server_key, expected });
    }
    if let Some(known) = known.as_ref().filter(|known| known.server_key != ping.server_key) {
        return Err(RegisterError::OtherKey {
            url,
            found: ping.server_key,
            pinned: known.server_key.clone(),
            cluster: known.cluster.clone(),
        });
    }
    let mut request = request(shared, address, known.as_ref())?;
    request.join = token.as_ref().map(|token| proof(token, &request)).transpose()?;
    let message = signed::sign(&shared.identity.key, Context::Register, &request)
        .map_err(|error| RegisterError::Make(error.to_string()))?;
    let answer = match client.register(message.clone()).await {
        Ok(answer) => answer,
        Err(refusal) => {
            if refusal.status() == Some(FORBIDDEN) && known.is_some() {
                take_farewell(shared, &client, message).await;
            }
            return Err(refusal.into());
        }
    };
    let response = open(&url, &answer, &ping, &request)?;
    if token.is_some() {
        join_token::forget(&shared.config.state_dir);
    }
    if response.adopt {
        shared.ask_report(true);
    }
    Ok(Registration {
        cluster: response.cluster,
        server_key: response.server_key,
        server_url: url,
        nats_url: response.nats_url,
        nats_ca: response.nats_ca,
        user_jwt: response.user_jwt,
        expires: response.expires,
        registered_at: request.at,
        subnet: response.subnet,
        mesh_ip: address.ip,
        mesh_interface: address.interface.clone(),
    })
}

/// The token that this host was given. Of systemd's nobody knows whether it was spent: a node that
/// is registered has done with it.
fn token(shared: &Shared, is_registered: bool) -> Result<Option<JoinToken>, JoinTokenError> {
    match join_token::load(&shared.config.state_dir)? {
        None if !is_registered => join_token::load_credential(shared.config.credentials.as_deref()),
        given => Ok(given),
    }
}

/// A node that was removed while it was away is sent nothing over NATS any more: it asks for its
/// last assignment, which has it run nothing.
async fn take_farewell(shared: &Shared, client: &ApiClient, message: Vec<u8>) {
    match client.farewell(message).await {
        Ok(assignment) => assignments::take(shared, &assignment),
        Err(error) => tracing::debug!(%error, "there is no last assignment"),
    }
}

/// Believes an answer that the server's key signed for this very request.
fn open(
    url: &str,
    answer: &[u8],
    ping: &Ping,
    request: &RegisterRequest,
) -> Result<RegisterResponse, RegisterError> {
    let response: RegisterResponse = signed::verify(&ping.server_key, Context::Registered, answer)
        .map_err(|source| RegisterError::Answer { url: url.to_owned(), source })?;
    let problem = if response.nonce != request.nonce {
        "it answers another request"
    } else if response.node != request.node {
        "it is for another node"
    } else if response.server_key != ping.server_key {
        "it names another key than the one that signed it"
    } else if request.cluster.as_ref().is_some_and(|cluster| *cluster != response.cluster) {
        "it is of another cluster than this node's"
    } else {
        return Ok(response);
    };
    Err(RegisterError::Mismatch { url: url.to_owned(), problem })
}

/// The key of the only server that is believed: that of the registration, else of the join token.
fn pinned<'a>(known: Option<&'a Registration>, token: Option<&'a JoinToken>) -> Option<&'a str> {
    let of_token = token.map(|token| token.server_key.as_str());
    known.map(|known| known.server_key.as_str()).or(of_token)
}

fn proof(token: &JoinToken, request: &RegisterRequest) -> Result<JoinProof, RegisterError> {
    let claim = JoinClaim {
        node: request.node.clone(),
        nkey: request.nkey.clone(),
        wg_pubkey: request.wg_pubkey.clone(),
    };
    token.prove(&claim).map_err(|error| RegisterError::Make(error.to_string()))
}

async fn find(
    shared: &Shared,
    address: &MeshAddress,
    known: Option<&Registration>,
    pinned: Option<&str>,
) -> Result<(ApiClient, Ping), RegisterError> {
    if let Server::Url(url) = &shared.config.server {
        let client = ApiClient::new(url)?;
        let ping = client.ping().await?;
        return Ok((client, ping));
    }
    if let Some(found) = last_known(address, known).await {
        return Ok(found);
    }
    let candidates = candidates(shared, address).await;
    let found = discover(&candidates, API_PORT).await;
    let (url, ping) = choose(found, pinned, candidates.len())?;
    Ok((ApiClient::bound_to(&url, address.ip)?, ping))
}

/// The server where it last was, if it still is and its key is the pinned one.
async fn last_known(
    address: &MeshAddress,
    known: Option<&Registration>,
) -> Option<(ApiClient, Ping)> {
    let known = known?;
    let client = ApiClient::bound_to(&known.server_url, address.ip).ok()?;
    let ping = client.ping().await.ok()?;
    (ping.server_key == known.server_key).then_some((client, ping))
}

/// This host first, then its peers in order of address.
async fn candidates(shared: &Shared, address: &MeshAddress) -> Vec<Ipv4Addr> {
    let client = MeshClient::new(find_socket(shared.config.mesh_socket.as_deref()));
    let peers = client.peers().await.unwrap_or_default();
    let mut addresses: Vec<Ipv4Addr> =
        peers.iter().filter_map(|peer| peer.mesh_ip.parse().ok()).collect();
    addresses.sort();
    addresses.dedup();
    addresses.retain(|peer| *peer != address.ip);
    addresses.insert(0, address.ip);
    addresses.truncate(CANDIDATES_MAX);
    addresses
}

/// The one with the pinned key; before the first registration, the only one.
fn choose(
    found: Vec<(String, Ping)>,
    pinned: Option<&str>,
    asked: usize,
) -> Result<(String, Ping), RegisterError> {
    if let Some(key) = pinned {
        let right = found.iter().find(|(_, ping)| ping.server_key == key);
        return match right.or(found.first()) {
            // One with another key is refused by the caller, with a sentence.
            Some(server) => Ok(server.clone()),
            None => Err(RegisterError::NoServer { asked }),
        };
    }
    let mut keys: Vec<&String> = found.iter().map(|(_, ping)| &ping.server_key).collect();
    keys.sort();
    keys.dedup();
    if keys.len() > 1 {
        let urls: Vec<&str> = found.iter().map(|(url, _)| url.as_str()).collect();
        return Err(RegisterError::Several { urls: urls.join(", ") });
    }
    found.into_iter().next().ok_or(RegisterError::NoServer { asked })
}

fn request(
    shared: &Shared,
    address: &MeshAddress,
    known: Option<&Registration>,
) -> Result<RegisterRequest, RegisterError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| RegisterError::Make(error.to_string()))?;
    let subnet = known.map(|known| known.subnet);
    Ok(RegisterRequest {
        node: shared.identity.node.clone(),
        nkey: shared.identity.key.public_key(),
        nonce: hex::encode(nonce),
        at: knit_runtime::clock::now(),
        cluster: known.map(|known| known.cluster.clone()),
        name: shared.config.name.clone(),
        wg_pubkey: address.pubkey.clone(),
        mesh_ip: address.ip,
        boot: shared.boot.clone(),
        agent_start: shared.start,
        applied: shared.applied(),
        labels: shared.config.labels.clone(),
        host_networks: crate::host::networks(subnet),
        subnet,
        sealing_key: Some(shared.identity.opening.sealing_key()),
        join: None,
        former: known.map(|known| known.user_jwt.clone()),
    })
}

#[cfg(test)]
mod tests {
    use nkeys::KeyPair;

    use super::*;

    fn ping(url: &str, key: &KeyPair) -> (String, Ping) {
        let ping = Ping {
            service: "knit-server".to_owned(),
            version: "0".to_owned(),
            cluster: ClusterId::from_bytes([1; 16]),
            server_key: key.public_key(),
        };
        (url.to_owned(), ping)
    }

    #[test]
    fn the_pinned_server_is_chosen_and_a_choice_of_strangers_is_refused() {
        let (one, two) = (KeyPair::new_server(), KeyPair::new_server());
        let both = vec![ping("http://a", &one), ping("http://b", &two)];
        assert_eq!(choose(both.clone(), Some(&two.public_key()), 2).unwrap().0, "http://b");
        let error = choose(both, None, 2).unwrap_err();
        assert!(matches!(error, RegisterError::Several { .. }), "{error}");
        assert!(matches!(choose(vec![], None, 7), Err(RegisterError::NoServer { asked: 7 })));
        let same = vec![ping("http://a", &one), ping("http://b", &one)];
        assert_eq!(choose(same, None, 2).unwrap().0, "http://a");
    }

    #[test]
    fn an_answer_to_another_request_or_by_another_key_is_refused() {
        let (server, stranger) = (KeyPair::new_server(), KeyPair::new_server());
        let (_, ping) = ping("http://a", &server);
        let node = knit_rpc::id::NodeId::from_bytes([2; 16]);
        let request: RegisterRequest = serde_json::from_value(serde_json::json!({
            "node": node, "nkey": "U", "nonce": "n1", "at": 1, "name": "x",
            "wg_pubkey": "", "mesh_ip": "10.0.0.1", "boot": "b",
            "cluster": ClusterId::from_bytes([1; 16]),
        }))
        .unwrap();
        let good = RegisterResponse {
            cluster: ClusterId::from_bytes([1; 16]),
            node,
            nonce: "n1".to_owned(),
            server_key: server.public_key(),
            nats_url: "nats://x".to_owned(),
            nats_ca: None,
            user_jwt: "j".to_owned(),
            expires: knit_rpc::Timestamp::default(),
            subnet: "10.208.0.0/24".parse().unwrap(),
            adopt: false,
        };
        let answered = |key: &KeyPair, response: &RegisterResponse| {
            let bytes = signed::sign(key, Context::Registered, response).unwrap();
            open("http://a", &bytes, &ping, &request).map_err(|error| error.to_string())
        };
        assert!(answered(&server, &good).is_ok());
        assert!(answered(&stranger, &good).is_err());
        for (changed, problem) in [
            (RegisterResponse { nonce: "n2".to_owned(), ..good.clone() }, "another request"),
            (
                RegisterResponse {
                    node: knit_rpc::id::NodeId::from_bytes([3; 16]),
                    ..good.clone()
                },
                "another node",
            ),
            (
                RegisterResponse { cluster: ClusterId::from_bytes([4; 16]), ..good.clone() },
                "another cluster",
            ),
            (RegisterResponse { server_key: stranger.public_key(), ..good.clone() }, "another key"),
        ] {
            let error = answered(&server, &changed).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
