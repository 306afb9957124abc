//! Who may use the API: nobody without a token, and nobody more than the token says.

use std::process::{Command, Stdio};
use std::time::Duration;

use knit_link::bus::MemoryBus;
use knit_link::http::ApiClient;
use knit_rpc::access::{NewToken, Role, Token};
use knit_rpc::event::EventKind;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::support::process::{Program, command};
use crate::support::{Home, Server, eventually, project, token};

/// What answers without a token, by `METHOD PATH`.
const OPEN: [&str; 6] = [
    "GET /v1/ping",
    "GET /v1/healthz",
    "GET /v1/identity",
    "POST /v1/nodes/register",
    "POST /v1/nodes/farewell",
    "POST /v1/nodes/pull",
];

/// What a viewer, a deployer and an operator of all projects may do; an admin may do the rest too.
const VIEWER: [&str; 22] = [
    "GET /openapi.json",
    "GET /v1/whoami",
    "GET /v1/tokens",
    "GET /v1/deployments",
    "GET /v1/deployments/{name}",
    "GET /v1/deployments/{name}/history",
    "GET /v1/deployments/{name}/rollout",
    "GET /v1/deployments/{name}/why",
    "GET /v1/deployments/{name}/why-not",
    "GET /v1/projects",
    "GET /v1/projects/{name}",
    "GET /v1/volumes",
    "GET /v1/volumes/{name}",
    "GET /v1/networks",
    "GET /v1/networks/{name}",
    "GET /v1/registries",
    "GET /v1/secrets",
    "GET /v1/secrets/{name}",
    "GET /v1/nodes",
    "GET /v1/nodes/{node}",
    "GET /v1/instances",
    "GET /v1/events",
];
const DEPLOYER: [&str; 16] = [
    "POST /v1/deployments",
    "DELETE /v1/deployments/{name}",
    "POST /v1/deployments/{name}/rollback",
    "POST /v1/deployments/{name}/scale",
    "POST /v1/deployments/{name}/restart",
    "POST /v1/deployments/{name}/stop",
    "POST /v1/deployments/{name}/start",
    "POST /v1/deployments/{name}/rollout/{step}",
    "DELETE /v1/volumes/{name}",
    "POST /v1/networks",
    "DELETE /v1/networks/{name}",
    "POST /v1/registries",
    "DELETE /v1/registries/{host}",
    "POST /v1/registries/{host}/test",
    "PUT /v1/secrets/{name}",
    "DELETE /v1/secrets/{name}",
];
const OPERATOR: [&str; 6] = [
    "PATCH /v1/nodes/{node}",
    "DELETE /v1/nodes/{node}",
    "POST /v1/nodes/{node}/approve",
    "POST /v1/nodes/{node}/reject",
    "POST /v1/join-tokens",
    "DELETE /v1/join-tokens/{token}",
];
const ADMIN: [&str; 6] = [
    "POST /v1/projects",
    "DELETE /v1/projects/{name}",
    "POST /v1/tokens",
    "DELETE /v1/tokens/{id}",
    "GET /v1/audit",
    "GET /v1/audit/check",
];

/// Every operation of the API, as its own document lists them.
async fn operations(server: &Server) -> Vec<String> {
    let url = format!("{}/openapi.json", server.url);
    let request = Client::new().get(url).bearer_auth(server.token.expose());
    let document: Value = request.send().await.expect("an answer").json().await.expect("json");
    let paths = document["paths"].as_object().expect("paths");
    let of = |(path, methods): (&String, &Value)| -> Vec<String> {
        let methods = methods.as_object().expect("methods").keys();
        methods.map(|method| format!("{} {path}", method.to_uppercase())).collect()
    };
    let mut found: Vec<String> = paths.iter().flat_map(of).collect();
    found.push("GET /openapi.json".to_owned());
    found
}

/// A request for an operation that does nothing but be allowed or not.
fn request(server: &Server, operation: &str, project: &str) -> RequestBuilder {
    let (method, path) = operation.split_once(' ').expect("METHOD PATH");
    let token = server.token.id().as_str();
    let path = path.replace("/projects/{name}", &format!("/projects/{project}"));
    let path = path
        .replace("{name}", "none")
        .replace("{node}", "none")
        .replace("{token}", "none")
        .replace("{step}", "pause")
        .replace("{host}", "r.example");
    let path = path.replace("{id}", token);
    let method: Method = method.parse().expect("a method");
    let body = match operation {
        "POST /v1/tokens" => r#"{"name":"t","role":"viewer","ttl":0}"#.to_owned(),
        "POST /v1/deployments" => {
            format!(r#"{{"project":"{project}","name":"none","image":"a:1","replicas":0}}"#)
        }
        "POST /v1/networks" => format!(r#"{{"project":"{project}","name":"Not a name"}}"#),
        "POST /v1/projects" => r#"{"name":"default"}"#.to_owned(),
        "POST /v1/deployments/{name}/scale" => r#"{"replicas":1}"#.to_owned(),
        _ => String::new(),
    };
    let query = if operation == "POST /v1/deployments" {
        "?revision=99".to_owned()
    } else {
        format!("?project={project}&node=none")
    };
    Client::new()
        .request(method, format!("{}{path}{query}", server.url))
        .timeout(Duration::from_millis(500))
        .body(body)
}

/// The status of the answer; that of a stream comes before its events do.
async fn status(request: RequestBuilder) -> StatusCode {
    request.send().await.expect("an answer").status()
}

#[tokio::test]
async fn nothing_but_health_answers_without_a_token() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let operations = operations(&server).await;
    assert!(operations.len() > 30, "{operations:?}");
    for operation in &operations {
        let status = status(request(&server, operation, "default")).await;
        if OPEN.contains(&operation.as_str()) {
            assert_ne!(status, 401, "{operation}");
        } else {
            assert_eq!(status, 401, "{operation}");
        }
    }
    for path in ["/nowhere", "/deployments", "/v1", "//v1/deployments", "/v1/ping/../nodes"] {
        let answer = reqwest::get(format!("{}{path}", server.url)).await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{path}");
        let told: Value = answer.json().await.unwrap();
        assert!(told["message"].as_str().unwrap().contains("knit login"), "{told}");
    }
    server.stop().await;
}

#[tokio::test]
async fn each_role_may_do_what_the_table_says_and_only_where_its_token_holds() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let operations = operations(&server).await;
    let least = |operation: &str| {
        let is_in = |list: &[&str]| list.contains(&operation);
        match () {
            () if is_in(&OPEN) => None,
            () if is_in(&VIEWER) => Some(Role::Viewer),
            () if is_in(&DEPLOYER) => Some(Role::Deployer),
            () if is_in(&OPERATOR) => Some(Role::Operator),
            () if is_in(&ADMIN) => Some(Role::Admin),
            () => panic!("{operation} is in no list: who may do it?"),
        }
    };
    for role in Role::ALL {
        let of_all = token(&server.app, "of all", role, None).await;
        let of_shop = token(&server.app, "of shop", role, Some(&["shop"])).await;
        for operation in &operations {
            let Some(least) = least(operation) else { continue };
            // The last admin token must not be revoked on the way.
            if operation == "DELETE /v1/tokens/{id}" && role == Role::Admin {
                continue;
            }
            let ask = |token: &Token, project: &'static str| {
                status(request(&server, operation, project).bearer_auth(token.expose()))
            };
            let of_all = ask(&of_all, "other").await;
            assert_eq!(of_all != 403, role >= least, "{role} of all, {operation}: {of_all}");
            let at_home = ask(&of_shop, "shop").await;
            let elsewhere = ask(&of_shop, "other").await;
            let of_a_project = [
                "/deployments",
                "/volumes",
                "/networks",
                "/registries",
                "/secrets",
                "/instances",
                "/events",
                "/projects/",
            ];
            let names_a_project = of_a_project.iter().any(|part| operation.contains(part));
            let may_at_home = role >= least && least < Role::Operator;
            let is_of_cluster = OPERATOR.contains(&operation.as_str()) || least == Role::Admin;
            if is_of_cluster {
                assert_eq!(at_home, 403, "{role} of shop, {operation}");
            } else {
                assert_eq!(at_home != 403, may_at_home, "{role} of shop, {operation}: {at_home}");
                let may_elsewhere = may_at_home && !names_a_project;
                assert_eq!(elsewhere != 403, may_elsewhere, "{role}, {operation}: {elsewhere}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn lists_and_events_show_only_the_projects_of_the_token() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let shop = token(&server.app, "shop", Role::Deployer, Some(&["shop"])).await;
    let client = ApiClient::new(&server.url).unwrap().with_token(shop);
    let mut events = client.events(None).await.unwrap();
    project(&server.app, "other").await;
    server.deploy("{name: secret, project: other, image: 'a:1', replicas: 0}").await;
    let manifest = "{name: web, project: shop, image: 'a:1', replicas: 0}";
    client.deploy(manifest.to_owned(), knit_rpc::spec::Format::Yaml).await.unwrap();
    let names: Vec<String> = client
        .deployments(None)
        .await
        .unwrap()
        .into_iter()
        .map(|view| format!("{}/{}", view.project, view.name))
        .collect();
    assert_eq!(names, ["shop/web"]);
    assert_eq!(server.api.deployments(None).await.unwrap().len(), 2);
    let event = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
    let event = event.expect("in time").unwrap().expect("an event");
    let of_shop = matches!(&event.kind, EventKind::DeploymentChanged { project, .. } if project.as_str() == "shop");
    assert!(of_shop, "{event:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_worth_nothing_once_it_is_revoked_or_old() {
    let home = Home::new();
    let server = Server::start_on_disk(&home, &MemoryBus::new()).await;
    let new = |ttl| NewToken {
        name: "ci".to_owned(),
        role: Role::Viewer,
        projects: None,
        ttl: Some(ttl),
    };
    let minted = server.api.create_token(&new(3600)).await.unwrap();
    let brief = server.api.create_token(&new(1)).await.unwrap();
    let client =
        |token: &str| ApiClient::new(&server.url).unwrap().with_token(Token::parse(token).unwrap());
    let ci = client(&minted.token);
    assert_eq!(ci.whoami().await.unwrap().name, format!("token ci ({})", minted.view.id));
    let listed = server.api.tokens().await.unwrap();
    let used = listed.iter().find(|view| view.id == minted.view.id).unwrap();
    assert!(used.last_used_at.is_some() && used.created_by.starts_with("token tests"), "{used:?}");
    let old = eventually("it is old", || async { client(&brief.token).nodes().await.err() }).await;
    assert!(old.to_string().contains(&format!("token {} has expired", brief.view.id)), "{old}");
    server.api.revoke_token(minted.view.id.as_str()).await.unwrap();
    let error = ci.nodes().await.unwrap_err();
    assert_eq!(error.status(), Some(401));
    assert!(error.to_string().contains("was revoked"), "{error}");
    let again = server.api.revoke_token(minted.view.id.as_str()).await.unwrap_err();
    assert_eq!(again.status(), Some(404));
    let token = server.token.clone();
    server.stop().await;
    let bytes = std::fs::read(home.dir.path().join("knit.db")).unwrap();
    let secret = token.expose().rsplit('_').next().unwrap();
    assert!(!contains(&bytes, secret), "the database holds no secret");
    assert!(contains(&bytes, &hex::encode(token.digest())), "but its digest");
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn who_tries_many_tokens_has_to_wait() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let mut statuses = Vec::new();
    for number in 0..12_u8 {
        let wrong = Token::new(server.token.id().clone(), [number; 32]);
        let url = format!("{}/v1/nodes", server.url);
        let answer = Client::new().get(url).bearer_auth(wrong.expose()).send().await.unwrap();
        statuses.push((answer.status().as_u16(), answer.headers().contains_key("retry-after")));
    }
    let tried = statuses.iter().filter(|(status, _)| *status == 401).count();
    assert!((10..12).contains(&tried), "{statuses:?}");
    assert_eq!(statuses[11], (429, true));
    assert_eq!(server.api.nodes().await.unwrap_err().status(), Some(429), "the same address");
    server.stop().await;
}

#[tokio::test]
async fn nobody_gives_more_than_he_has() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let admin = token(&server.app, "shop's admin", Role::Admin, Some(&["shop"])).await;
    let client = ApiClient::new(&server.url).unwrap().with_token(admin);
    let new = |projects: Option<&[&str]>| NewToken {
        name: "t".to_owned(),
        role: Role::Admin,
        projects: projects.map(|names| names.iter().map(|name| name.parse().unwrap()).collect()),
        ttl: None,
    };
    for (projects, status) in [
        (None, Some(403)),
        (Some(["shop", "other"].as_slice()), Some(403)),
        (Some(&["shop"]), None),
    ] {
        let made = client.create_token(&new(projects)).await;
        assert_eq!(made.err().and_then(|error| error.status()), status, "{projects:?}");
    }
    assert_eq!(client.tokens().await.unwrap().len(), 2, "its own and the one it made");
    let error = client.revoke_token(server.token.id().as_str()).await.unwrap_err();
    assert_eq!(error.status(), Some(403));
    for (name, ttl) in [("", None), ("a\nb", None), ("x", Some(0)), ("x", Some(u64::MAX))] {
        let bad = NewToken { name: name.to_owned(), ttl, ..new(None) };
        assert_eq!(server.api.create_token(&bad).await.unwrap_err().status(), Some(400), "{bad:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn on_the_servers_host_root_needs_no_token_and_others_do() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let told = program.api.whoami().await.unwrap();
    assert_eq!((told.name.as_str(), told.role), ("root on the server's host", Role::Admin));
    // The directory is root's alone; another user gets the socket by another way in.
    let (socket, open) = (dir.path().join("api.sock"), tempfile::tempdir().unwrap());
    let link = open.path().join("api.sock");
    std::fs::hard_link(&socket, &link).unwrap();
    std::fs::set_permissions(open.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let as_nobody = |extra: &[&str]| {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl", "-s"])
            .arg("--unix-socket")
            .arg(&link)
            .args(extra)
            .arg("http://localhost/v1/nodes")
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let refused = as_nobody(&[]);
    assert!(refused.contains("you are user 65534"), "{refused:?}");
    let new = NewToken { name: "n".to_owned(), role: Role::Viewer, projects: None, ttl: None };
    let minted = program.api.create_token(&new).await.unwrap();
    let header = format!("Authorization: Bearer {}", minted.token);
    assert_eq!(as_nobody(&["-H", &header]), "[]");
    assert!(program.terminate().await.success());
    assert!(!socket.exists(), "a server that stops takes its socket away");
}

#[tokio::test]
async fn init_prints_the_first_token_once() {
    let dir = tempfile::tempdir().unwrap();
    let init = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_knit-server"));
        let output = command.args(["init", "--state-dir"]).arg(dir.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let (good, printed, told) = init();
    assert!(good, "{told}");
    let token = Token::parse(&printed).expect("nothing but the token");
    assert!(!told.contains(token.expose()), "it is not logged");
    let file = dir.path().join("admin.token");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), printed);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let (again, printed, told) = init();
    assert!(!again && printed.is_empty(), "{printed}");
    assert!(told.contains("knit token create --role admin"), "{told}");
    let program = Program::start(dir.path()).await;
    let url = format!("http://{}:{}", program.address, crate::support::process::PORT);
    let client = ApiClient::new(&url).unwrap().with_token(token);
    assert_eq!(client.whoami().await.unwrap().role, Role::Admin);
    drop(program);
    // A second server on the same state and socket must not take it from the first.
    let mut first = command(dir.path()).spawn().unwrap();
    eventually("the socket answers", || async {
        ApiClient::on_socket(&dir.path().join("api.sock")).unwrap().ping().await.ok()
    })
    .await;
    first.kill().unwrap();
    first.wait().unwrap();
}

/// Deploying as `role` of project shop; the refusal's message, if it is one.
async fn deploys(server: &Server, role: Role, manifest: &str) -> Option<String> {
    let token = token(&server.app, "of shop", role, Some(&["shop"])).await;
    let url = format!("{}/v1/deployments", server.url);
    let request = Client::new().post(url).bearer_auth(token.expose());
    let answer = request.body(manifest.to_owned()).send().await.expect("an answer");
    let status = answer.status();
    let body: Value = answer.json().await.expect("json");
    assert!(status == 202 || (status == 403 && body["code"] == "denied"), "{status} {body}");
    (status == 403).then(|| body["message"].as_str().expect("a message").to_owned())
}

#[tokio::test]
async fn what_reaches_into_its_host_takes_an_operator() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    for (reach, named) in [
        (r#""privileged":true"#, "privileged"),
        (r#""networks":["host"]"#, "the host's network"),
        (r#""cap_add":["SYS_TIME"]"#, "capability SYS_TIME"),
        (r#""host_mounts":[{"host_path":"/srv","path":"/a"}]"#, "host path /srv"),
    ] {
        let manifest =
            format!(r#"{{"project":"shop","name":"web","image":"a:1","replicas":0,{reach}}}"#);
        let refusal = deploys(&server, Role::Deployer, &manifest).await.expect("a refusal");
        assert!(refusal.contains("takes operator there"), "{refusal}");
        assert!(refusal.ends_with(&format!("web would have {named}")), "{refusal}");
        assert_eq!(deploys(&server, Role::Operator, &manifest).await, None, "{named}");
    }
    // Without it anybody may; going back to it takes an operator again.
    let plain = r#"{"project":"shop","name":"web","image":"a:1","replicas":0}"#;
    assert_eq!(deploys(&server, Role::Deployer, plain).await, None);
    let (project, name) = ("shop".parse().unwrap(), "web".parse().unwrap());
    for (role, status) in [(Role::Deployer, Some(403)), (Role::Operator, None)] {
        let token = token(&server.app, "of shop", role, Some(&["shop"])).await;
        let client = ApiClient::new(&server.url).unwrap().with_token(token);
        let back = client.rollback(&project, &name, Some(4)).await;
        assert_eq!(back.err().and_then(|error| error.status()), status, "{role}");
    }
    let token = token(&server.app, "of shop", Role::Deployer, Some(&["shop"])).await;
    let url = format!("{}/v1/networks?project=shop", server.url);
    let request = Client::new().post(url).bearer_auth(token.expose());
    let body = r#"{"name":"lan","driver":"host"}"#;
    assert_eq!(status(request.body(body)).await, 403, "another name for the host's network");
    server.stop().await;
}
