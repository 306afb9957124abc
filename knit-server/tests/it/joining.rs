//! Who becomes a node: with a join token, by somebody's word, or not at all.

use knit_link::bus::MemoryBus;
use knit_link::http::HttpError;
use knit_rpc::api::{NodeState, NodeView, RegisterRequest, RegisterResponse};
use knit_rpc::join::{JoinClaim, JoinProof, JoinToken, NewJoinToken};
use knit_rpc::signed::{self, Context};
use knit_server::store::Store;
use knit_server_core::admission::Policy;

use crate::support::agent::Disk;
use crate::support::{Home, Server, eventually};

async fn server(home: &Home) -> Server {
    let identity = home.identity();
    let path = home.dir.path().join("knit.db");
    let store = Store::open(&path, &identity.cluster).await.expect("it goes well");
    Server::start_asked(home, identity, store, &MemoryBus::new(), Policy::Asked).await
}

async fn mint(server: &Server, new: NewJoinToken) -> JoinToken {
    let minted = server.api.create_join_token(&new).await.expect("it goes well");
    JoinToken::parse(&minted.token).expect("it goes well")
}

fn proof(token: &JoinToken, request: &RegisterRequest) -> JoinProof {
    let claim = JoinClaim {
        node: request.node.clone(),
        nkey: request.nkey.clone(),
        wg_pubkey: request.wg_pubkey.clone(),
    };
    token.prove(&claim).expect("a proof")
}

async fn send(
    server: &Server,
    disk: &Disk,
    change: impl FnOnce(RegisterRequest) -> RegisterRequest,
) -> Result<RegisterResponse, HttpError> {
    let request = change(disk.request());
    let signed = signed::sign(&disk.key(), Context::Register, &request).expect("it goes well");
    let answer = server.api.register(signed).await?;
    Ok(signed::peek(&answer).expect("it goes well"))
}

async fn with_token(
    server: &Server,
    disk: &Disk,
    token: &JoinToken,
) -> Result<RegisterResponse, HttpError> {
    send(server, disk, |request| RegisterRequest { join: Some(proof(token, &request)), ..request })
        .await
}

async fn view(server: &Server, disk: &Disk) -> Option<NodeView> {
    let nodes = server.api.nodes().await.expect("it goes well");
    nodes.into_iter().find(|node| node.id.as_ref() == Some(&disk.node))
}

#[track_caller]
fn refused(answer: Result<RegisterResponse, HttpError>, why: &str) {
    let error = answer.expect_err("it is refused");
    assert_eq!(error.status(), Some(403), "{error}");
    assert!(error.to_string().contains(why), "{error}");
}

#[tokio::test]
async fn a_join_token_lets_one_host_in_once() {
    let home = Home::new();
    let server = server(&home).await;
    let labels = [("role".to_owned(), "web".to_owned())].into();
    let token = mint(&server, NewJoinToken { labels, ..NewJoinToken::default() }).await;
    assert_eq!(token.cluster, server.app.identity.cluster);
    assert_eq!(token.server_key, server.app.identity.public_key());
    let (first, second) = (Disk::new(1), Disk::new(2));
    with_token(&server, &first, &token).await.unwrap();
    let node = view(&server, &first).await.unwrap();
    assert_eq!(node.labels["role"], "web");
    refused(with_token(&server, &second, &token).await, "it was spent");
    with_token(&server, &first, &token).await.expect("its own node may repeat it: it is one");
    first.register(&server.api).await.expect("and renew without");

    let bytes = std::fs::read(home.dir.path().join("knit.db")).unwrap();
    let seed = token.expose().split('_').nth(1).unwrap().to_owned();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!holds(&seed), "the database holds nothing to join with");
    server.stop().await;
}

#[tokio::test]
async fn a_join_token_that_was_revoked_lets_nobody_in() {
    let server = server(&Home::new()).await;
    let (token, disk) = (mint(&server, NewJoinToken::default()).await, Disk::new(1));
    server.api.revoke_join_token(&token.public_key()).await.expect("it goes well");
    refused(with_token(&server, &disk, &token).await, "is not known here");
    let again = server.api.revoke_join_token(&token.public_key()).await.unwrap_err();
    assert_eq!(again.status(), Some(404), "{again}");
    server.stop().await;
}

#[tokio::test]
async fn a_token_that_is_old_bound_or_not_the_nodes_own_lets_nobody_in() {
    let server = server(&Home::new()).await;
    let (disk, other) = (Disk::new(1), Disk::new(2));
    let brief = NewJoinToken { ttl: Some(1), ..NewJoinToken::default() };
    let minted = server.api.create_join_token(&brief).await.unwrap();
    let (brief, expires_at) = (JoinToken::parse(&minted.token).unwrap(), minted.expires_at);
    let bound =
        NewJoinToken { wg_pubkey: Some(other.request().wg_pubkey), ..NewJoinToken::default() };
    let bound = mint(&server, bound).await;
    refused(with_token(&server, &disk, &bound).await, "another WireGuard key");
    let overheard = proof(&bound, &other.request());
    let stolen = |request| RegisterRequest { join: Some(overheard), ..request };
    refused(send(&server, &disk, stolen).await, "not for this node");
    let strange = JoinToken::new(bound.cluster.clone(), bound.server_key.clone()).unwrap();
    refused(with_token(&server, &disk, &strange).await, "is not known here");
    eventually("the brief one is old", || async {
        (knit_runtime::clock::now() >= expires_at).then_some(())
    })
    .await;
    refused(with_token(&server, &disk, &brief).await, "has expired");
    for new in [
        NewJoinToken { ttl: Some(0), ..NewJoinToken::default() },
        NewJoinToken { ttl: Some(31 * 24 * 3600), ..NewJoinToken::default() },
        NewJoinToken { wg_pubkey: Some("x".to_owned()), ..NewJoinToken::default() },
        NewJoinToken { labels: [(String::new(), String::new())].into(), ..NewJoinToken::default() },
    ] {
        let error = server.api.create_join_token(&new).await.unwrap_err();
        assert_eq!(error.status(), Some(400), "{new:?}");
    }
    with_token(&server, &other, &bound).await.expect("whose key it is for");
    server.stop().await;
}

#[tokio::test]
async fn a_host_without_a_token_waits_until_somebody_decides() {
    let home = Home::new();
    let server = server(&home).await;
    let (disk, unwanted) = (Disk::new(1), Disk::new(2));
    refused(disk.register(&server.api).await, "waits to be let in");
    refused(unwanted.register(&server.api).await, "waits to be let in");
    let node = view(&server, &disk).await.expect("it is shown");
    assert_eq!(node.state, NodeState::Pending);
    assert_eq!(server.api.node(&disk.node).await.unwrap(), node, "and looked at alone");
    assert!(node.message.unwrap().contains("knit node approve"));
    server.api.approve_node(&disk.node).await.unwrap();
    assert_ne!(view(&server, &disk).await.unwrap().state, NodeState::Pending);
    let thief = nkeys::KeyPair::new_user();
    let stolen = RegisterRequest { nkey: thief.public_key(), ..disk.request() };
    let signed = signed::sign(&thief, Context::Register, &stolen).unwrap();
    let error = server.api.register(signed).await.unwrap_err();
    assert!(matches!(error.status(), Some(403 | 409)), "approved was the other key: {error}");
    disk.register(&server.api).await.expect("it is let in");

    server.api.reject_node(&unwanted.node, false).await.unwrap();
    refused(unwanted.register(&server.api).await, "somebody rejected this host");
    assert_eq!(view(&server, &unwanted).await, None, "and nobody is asked again");
    let again = server.api.approve_node(&unwanted.node).await.unwrap_err();
    assert_eq!(again.status(), Some(404));
    server.stop().await;

    let server = self::server(&home).await;
    refused(unwanted.register(&server.api).await, "somebody rejected this host");
    let token = mint(&server, NewJoinToken::default()).await;
    with_token(&server, &unwanted, &token).await.expect("a token lets it in all the same");
    unwanted.register(&server.api).await.expect("and it stays in");
    server.stop().await;
}

#[tokio::test]
async fn a_removed_node_has_to_be_let_in_anew_and_a_server_that_forgot_knows_its_own() {
    let home = Home::new();
    let server = server(&home).await;
    let (kept, removed) = (Disk::new(1), Disk::new(2));
    let mut tokens = Vec::new();
    for disk in [&kept, &removed] {
        let token = mint(&server, NewJoinToken::default()).await;
        tokens.push(with_token(&server, disk, &token).await.unwrap().user_jwt);
    }
    server.api.remove_node(&removed.node, true).await.unwrap();
    let former = |token: &str| {
        let former = Some(token.to_owned());
        move |request| RegisterRequest { former, ..request }
    };
    refused(send(&server, &removed, former(&tokens[1])).await, "waits to be let in");
    server.stop().await;

    // The database is lost, the identity is not.
    for file in ["knit.db", "knit.db-wal", "knit.db-shm"] {
        let _ = std::fs::remove_file(home.dir.path().join(file));
    }
    let server = self::server(&home).await;
    refused(kept.register(&server.api).await, "waits to be let in");
    refused(send(&server, &kept, former(&tokens[1])).await, "waits to be let in");
    let forged = format!("{}x", tokens[0]);
    refused(send(&server, &kept, former(&forged)).await, "waits to be let in");
    send(&server, &kept, former(&tokens[0])).await.expect("its token is this cluster's");
    server.stop().await;
}
