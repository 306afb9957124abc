//! Who did what is written down, and that nothing of it was changed can be proven.

use knit_link::bus::MemoryBus;
use knit_link::http::ApiClient;
use knit_rpc::access::{Role, Token};
use knit_rpc::audit::AuditEntry;
use knit_rpc::join::NewJoinToken;
use sqlx::Connection as _;

use crate::support::agent::Disk;
use crate::support::{Home, Server, project, token};

async fn entries(server: &Server) -> Vec<AuditEntry> {
    server.api.audit(0).await.expect("the audit")
}

fn shown(entry: &AuditEntry) -> String {
    let actor = entry.actor.split(" (").next().unwrap_or_default();
    format!("{} {} {} {}", entry.status, actor, entry.action, entry.subject)
}

#[tokio::test]
async fn what_changes_something_and_what_is_denied_is_written_down_in_a_chain() {
    let home = Home::new();
    let server = Server::start_on_disk(&home, &MemoryBus::new()).await;
    project(&server.app, "shop").await;
    let viewer = token(&server.app, "looker", Role::Viewer, None).await;
    let viewer = ApiClient::new(&server.url).unwrap().with_token(viewer);
    server
        .deploy("{name: web, project: shop, image: 'a:1', replicas: 0, env: {KEY: s3cret}}")
        .await;
    viewer.deployments(None).await.unwrap();
    viewer.undeploy(&"shop".parse().unwrap(), &"web".parse().unwrap()).await.unwrap_err();
    let wrong = Token::new(server.token.id().clone(), [9; 32]);
    let wrong = ApiClient::new(&server.url).unwrap().with_token(wrong);
    wrong.nodes().await.unwrap_err();
    ApiClient::new(&server.url).unwrap().nodes().await.unwrap_err();
    server.api.create_join_token(&NewJoinToken::default()).await.unwrap();
    let disk = Disk::new(1);
    disk.register(&server.api).await.unwrap();
    disk.register(&server.api).await.unwrap();

    let written = entries(&server).await;
    let all: Vec<String> = written.iter().map(shown).collect();
    assert_eq!(
        all,
        [
            "202 token tests POST /v1/deployments shop/web revision 1",
            "403 token looker DELETE /v1/deployments/web?project=shop ",
            "401 a wrong token GET /v1/nodes ",
            "201 token tests POST /v1/join-tokens ",
            "200 host n1 joined ",
        ]
    );
    assert!(written.iter().all(|entry| entry.origin == "127.0.0.1" || entry.origin == "10.45.0.1"));
    assert!(!format!("{written:?}").contains("s3cret"));
    assert_eq!(server.api.audit(3).await.unwrap().len(), 2);
    let check = server.api.check_audit().await.unwrap();
    assert_eq!((check.entries, check.broken), (5, None));
    assert_eq!(check.head, written[4].hash);
    assert_eq!(viewer.audit(0).await.unwrap_err().status(), Some(403));
    server.stop().await;

    // It goes on where it was, and who has the file cannot change it unnoticed.
    let server = Server::start_on_disk(&home, &MemoryBus::new()).await;
    server.deploy("{name: web, image: 'a:1', replicas: 0}").await;
    let check = server.api.check_audit().await.unwrap();
    assert_eq!(
        (check.entries, check.broken),
        (7, None),
        "with the look at the audit that was denied"
    );
    let path = home.dir.path().join("knit.db");
    let url = format!("sqlite://{}", path.display());
    let mut raw = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let change = "UPDATE audit SET actor = 'nobody' WHERE sequence = 2";
    let error = sqlx::query(change).execute(&mut raw).await.unwrap_err();
    assert!(error.to_string().contains("only ever added to"), "{error}");
    sqlx::query("DROP TRIGGER audit_is_not_changed").execute(&mut raw).await.unwrap();
    sqlx::query(change).execute(&mut raw).await.unwrap();
    let check = server.api.check_audit().await.unwrap();
    assert_eq!((check.entries, check.broken.as_deref()), (1, Some("entry 2 was changed")));
    server.stop().await;
}
