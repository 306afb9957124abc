//! With a join token the agent believes one server only, and spends it there.

use knit_agent::join_token;
use knit_rpc::join::{JoinClaim, JoinToken};

use super::World;
use crate::support::until;

fn token(world: &World, server_key: String) -> JoinToken {
    let token = JoinToken::new(world.server.cluster.clone(), server_key).unwrap();
    let file = world.dir.path().join("given");
    std::fs::write(&file, format!("{}\n", token.expose())).unwrap();
    join_token::take(world.dir.path(), Some(&file)).unwrap();
    token
}

#[tokio::test]
async fn a_join_token_is_proven_once_and_never_sent() {
    let world = World::new().await;
    let token = token(&world, world.server.key());
    let agent = world.agent();
    until("it is registered", || world.server.seen(|seen| !seen.registrations.is_empty())).await;
    until("the token is gone", || !join_token::path(world.dir.path()).exists()).await;
    let request = world.server.seen(|seen| seen.registrations[0].clone());
    let proof = request.join.clone().expect("a proof");
    let (node, nkey) = (request.node.clone(), request.nkey.clone());
    assert!(proof.is_for(&JoinClaim { node, nkey, wg_pubkey: request.wg_pubkey.clone() }));
    assert_eq!(proof.token, token.public_key());
    let sent = serde_json::to_string(&request).unwrap();
    let seed = token.expose().split('_').nth(1).unwrap().to_owned();
    assert!(!sent.contains(&seed), "{sent}");
    agent.stop().await;
}

#[tokio::test]
async fn a_token_that_systemd_hands_in_is_proven_until_the_node_is_registered() {
    let world = World::new().await;
    let token = JoinToken::new(world.server.cluster.clone(), world.server.key()).unwrap();
    let credentials = world.dir.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("join-token"), format!("{}\n", token.expose())).unwrap();
    for (run, has_proof) in [(0, true), (1, false)] {
        let agent = world.agent();
        until("it registers", || world.server.seen(|seen| seen.registrations.len() > run)).await;
        let proof = world.server.seen(|seen| seen.registrations[run].join.clone());
        assert_eq!(proof.is_some(), has_proof, "run {run}");
        let registered = world.dir.path().join("registration.json");
        until("it keeps that", || registered.exists()).await;
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_server_with_another_key_than_the_tokens_gets_nothing() {
    let world = World::new().await;
    token(&world, nkeys::KeyPair::new_server().public_key());
    let agent = world.agent();
    until("it tried three times", || world.server.seen(|seen| seen.pings) >= 3).await;
    assert!(world.server.seen(|seen| seen.registrations.is_empty()), "and told nothing");
    assert!(join_token::path(world.dir.path()).exists(), "and the token waits");
    agent.stop().await;
}
