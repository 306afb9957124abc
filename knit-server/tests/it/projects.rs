//! Projects: nothing goes into one that is not there, and none goes while something is in it.

use std::sync::Arc;

use knit_link::bus::MemoryBus;
use knit_link::http::ApiClient;
use knit_rpc::access::Role;
use knit_rpc::api::{DeploymentState, ProjectContents};
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_rpc::spec::Format;
use sqlx::Connection as _;

use crate::support::agent::{Agent, Disk};
use crate::support::{Home, Server, eventually, token};

fn shop() -> ProjectName {
    "shop".parse().expect("a name")
}

async fn names(api: &ApiClient) -> Vec<String> {
    let all = api.projects().await.expect("projects");
    all.iter().map(|view| view.name.to_string()).collect()
}

#[tokio::test]
async fn nothing_goes_into_a_project_that_is_not_there() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let web = "{name: web, image: 'a:1', replicas: 0}";
    let into = |project: &str| {
        let (api, project) = (server.api.clone(), project.parse().unwrap());
        async move { api.deploy_in(Some(&project), web.to_owned(), Format::Yaml).await }
    };
    let error = into("shop").await.unwrap_err();
    assert_eq!(error.status(), Some(400));
    let network = r#"{"name":"lan","project":"shop"}"#;
    let refused = reqwest::Client::new()
        .post(format!("{}/networks", server.url))
        .bearer_auth(server.token.expose())
        .body(network)
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 400);
    let told = refused.text().await.unwrap();
    assert!(told.contains("`knit project create shop` makes it"), "{told}");
    for list in ["deployments", "volumes", "networks", "instances", "events"] {
        let url = format!("{}/{list}?project=shop", server.url);
        let asked = reqwest::Client::new().get(url).bearer_auth(server.token.expose());
        assert_eq!(asked.send().await.unwrap().status(), 404, "{list}");
    }

    server.api.create_project(&shop()).await.unwrap();
    let again = server.api.create_project(&shop()).await.unwrap_err();
    assert_eq!(again.status(), Some(409));
    assert_eq!(names(&server.api).await, ["default", "shop"]);
    assert_eq!(into("shop").await.unwrap().project, shop());
    // The same name in another project is another deployment.
    assert_eq!(into("default").await.unwrap().project, ProjectName::default());
    assert_eq!(server.api.deployments(None).await.unwrap().len(), 2);
    assert_eq!(server.api.deployments(Some(&shop())).await.unwrap().len(), 1);
    let both = "{name: web, project: default, image: 'a:1'}".to_owned();
    let error = server.api.deploy_in(Some(&shop()), both, Format::Yaml).await.unwrap_err();
    assert_eq!(error.status(), Some(400), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn a_project_goes_once_nothing_is_in_it_and_no_token_names_it() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let disk = Disk::new(1);
    let _agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    let ci = token(&server.app, "ci", Role::Deployer, Some(&["shop"])).await;
    let ci = ApiClient::new(&server.url).unwrap().with_token(ci);
    assert_eq!(names(&ci).await, ["shop"], "it sees its own");
    let db = "{name: db, image: v1, volumes: [{name: data, path: /data}]}".to_owned();
    ci.deploy_in(Some(&shop()), db, Format::Yaml).await.unwrap();
    let db = DeploymentName::parse("db").unwrap();
    eventually("it runs", || async {
        let view = server.api.deployment(&shop(), &db).await.ok()?;
        (view.state == DeploymentState::Running).then_some(())
    })
    .await;
    let refused = || async { server.api.remove_project(&shop()).await.unwrap_err().to_string() };
    let told = refused().await;
    let start = "project shop still has 1 deployment, 1 volume, 1 token (";
    assert!(told.starts_with(start) && told.ends_with("remove them first"), "{told}");
    for who in [&ci, &server.api] {
        let denied = who.remove_project(&ProjectName::default()).await.unwrap_err().status();
        assert!(matches!(denied, Some(403 | 409)), "{denied:?}");
    }
    server.api.undeploy(&shop(), &db).await.unwrap();
    eventually("its containers are gone", || async {
        let shown = server.api.projects().await.ok()?;
        let found = shown.iter().find(|view| view.name == shop())?.contents;
        (found == ProjectContents { volumes: 1, ..ProjectContents::default() }).then_some(())
    })
    .await;
    server.api.remove_volume(&shop(), "data").await.unwrap();
    eventually("only the token is left", || async {
        refused().await.starts_with("project shop still has 1 token").then_some(())
    })
    .await;
    let tokens = server.api.tokens().await.unwrap();
    let ci = tokens.iter().find(|view| view.name == "ci").unwrap();
    server.api.revoke_token(ci.id.as_str()).await.unwrap();
    server.api.remove_project(&shop()).await.unwrap();
    assert_eq!(names(&server.api).await, ["default"]);
    assert_eq!(server.api.remove_project(&shop()).await.unwrap_err().status(), Some(404));
    server.stop().await;
}

#[tokio::test]
async fn who_deploys_while_the_project_is_removed_loses_or_keeps_it() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let mut outcomes = std::collections::BTreeSet::new();
    for round in 0..30 {
        let project: ProjectName = format!("p{round}").parse().unwrap();
        server.api.create_project(&project).await.unwrap();
        let web = "{name: web, image: 'a:1', replicas: 0}".to_owned();
        let deploy = server.api.deploy_in(Some(&project), web, Format::Yaml);
        let remove = server.api.remove_project(&project);
        // Who is polled first is asked first, mostly.
        let (deployed, removed) = if round % 2 == 0 {
            tokio::join!(deploy, remove)
        } else {
            let (removed, deployed) = tokio::join!(remove, deploy);
            (deployed, removed)
        };
        assert_ne!(deployed.is_ok(), removed.is_ok(), "{deployed:?} {removed:?}");
        outcomes.insert(deployed.is_ok());
        let is_there = names(&server.api).await.contains(&project.to_string());
        assert_eq!(is_there, deployed.is_ok());
    }
    assert_eq!(outcomes.len(), 2, "both happened");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_forgot_makes_the_projects_that_its_nodes_run() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let disk = Disk::new(1);
    let agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    server.api.create_project(&shop()).await.unwrap();
    server.deploy("{name: web, project: shop, image: v1}").await;
    eventually("it runs", || async { (disk.running().len() == 1).then_some(()) }).await;
    drop(agent);
    server.stop().await;

    let bus = MemoryBus::new();
    let server = Server::start_on_disk(&home, &bus).await;
    assert_eq!(names(&server.api).await, ["default"], "it knows nothing yet");
    let _agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    eventually("it is taken in", || async {
        let found = server.api.projects().await.ok()?;
        let shop = found.iter().find(|view| view.name == shop())?;
        (shop.contents.deployments == 1).then_some(())
    })
    .await;
    server.stop().await;
    let server = Server::start_on_disk(&home, &MemoryBus::new()).await;
    assert_eq!(names(&server.api).await, ["default", "shop"], "and it stays");
    server.stop().await;
}

#[tokio::test]
async fn the_projects_of_an_older_database_are_taken_in() {
    let home = Home::new();
    let server = Server::start_on_disk(&home, &MemoryBus::new()).await;
    for name in ["shop", "blog"] {
        server.api.create_project(&name.parse().unwrap()).await.unwrap();
    }
    server.deploy("{name: web, project: shop, image: 'a:1', replicas: 0}").await;
    server.stop().await;
    // As it was before projects were made: what is left of `blog` is a network, of `old-1` a volume.
    let url = format!("sqlite://{}", home.dir.path().join("knit.db").display());
    let mut raw = sqlx::SqliteConnection::connect(&url).await.unwrap();
    for statement in [
        "DELETE FROM _sqlx_migrations WHERE version >= 6",
        "DROP TABLE projects",
        r#"INSERT INTO networks (project, name, spec, created_at)
           VALUES ('blog', 'lan', '{"project":"blog","name":"lan","driver":"host"}', 7)"#,
        "INSERT INTO volumes (name, node_id, created_at) VALUES ('old-1/data.0', '00', 5)",
    ] {
        sqlx::query(statement).execute(&mut raw).await.unwrap();
    }
    let migration = include_str!("../../migrations/0006_projects.sql");
    sqlx::raw_sql(migration).execute(&mut raw).await.unwrap();
    let found: Vec<(String, i64)> =
        sqlx::query_as("SELECT name, created_at FROM projects ORDER BY name")
            .fetch_all(&mut raw)
            .await
            .unwrap();
    let found: Vec<(&str, bool)> =
        found.iter().map(|(name, at)| (name.as_str(), *at > 0)).collect();
    assert_eq!(found, [("blog", true), ("old-1", true), ("shop", true)]);
    raw.close().await.unwrap();
}
