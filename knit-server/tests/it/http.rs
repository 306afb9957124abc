//! The API as clients see it, errors included.

mod orchestration;

use knit_link::bus::MemoryBus;
use knit_rpc::api::RegisterRequest;
use knit_rpc::signed::{self, Context};
use reqwest::Method;
use serde_json::Value;

use crate::support::agent::Disk;
use crate::support::{Home, Server};

/// One exchange as a snapshot: status, allowed methods, body; what differs from run to run masked.
async fn ask(server: &Server, method: Method, path: &str, kind: &str, body: &str) -> String {
    let response = reqwest::Client::new()
        .request(method.clone(), format!("{}{path}", server.url))
        .bearer_auth(server.token.expose())
        .header("content-type", kind)
        .body(body.to_owned())
        .send()
        .await
        .expect("an answer");
    let status = response.status().as_u16();
    let id = response.headers().get("x-request-id").cloned().expect("a request id");
    let mut json: Value =
        serde_json::from_slice(&response.bytes().await.expect("a body")).unwrap_or(Value::Null);
    if let Some(told) = json.get("request_id") {
        assert_eq!(told.as_str(), id.to_str().ok(), "body and header agree");
    }
    mask(&mut json);
    let pretty = serde_json::to_string_pretty(&json).expect("json");
    format!("{method} {path} -> {status}\n{pretty}")
}

fn mask(json: &mut Value) {
    match json {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                let varies = [
                    "request_id",
                    "created_at",
                    "updated_at",
                    "started_at",
                    "ended_at",
                    "last_heartbeat",
                    "cluster",
                    "server_key",
                ];
                if varies.contains(&key.as_str()) && !value.is_null() {
                    *value = Value::String("…".into());
                } else {
                    mask(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

const HELLO: &str = r#"{"name":"hello","image":"nginx:alpine","node_selector":{"role":"web"},"ports":[{"container_port":80,"host_port":8080,"protocol":"tcp"}],"templates":[{"destination":"/usr/share/nginx/html/index.html","content":"<p>{{env.GREETING}} from {{node.name}}</p>"}],"env":{"GREETING":"hi"}}"#;

#[tokio::test]
async fn every_endpoint_answers_in_its_shape() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let json = "application/json";
    ask(&server, Method::POST, "/deployments", json, HELLO).await;
    server.until("hello", knit_rpc::api::DeploymentState::Unplaced).await;
    let mut told = Vec::new();
    for (method, path, kind, body) in [
        (Method::GET, "/ping", json, ""),
        (Method::GET, "/v1/ping", json, ""),
        (Method::POST, "/v1/deployments", json, HELLO),
        (Method::GET, "/deployments/hello", json, ""),
        (Method::POST, "/deployments?revision=7", json, HELLO),
        (Method::POST, "/deployments?project=shpo", json, HELLO),
        (
            Method::POST,
            "/deployments",
            "application/yaml",
            "nmae: x\nimage: ''\nreplicas: many\nports: [{container_port: 0}]\n",
        ),
        (Method::POST, "/deployments", "application/toml", "name = \"a\"\nimage = \"b\"\n"),
        (Method::POST, "/deployments", json, "{"),
        (Method::GET, "/deployments?project=No_Such", json, ""),
        (Method::GET, "/deployments?project=empty", json, ""),
        (Method::GET, "/deployments/nobody", json, ""),
        (Method::GET, "/deployments/UPPER", json, ""),
        (Method::DELETE, "/deployments/nobody?project=other", json, ""),
        (Method::DELETE, "/deployments/a", json, ""),
        (Method::GET, "/nodes", json, ""),
        (Method::GET, "/instances", json, ""),
        (Method::POST, "/v1/nodes/register", json, "rubbish"),
        (Method::GET, "/nowhere", json, ""),
        (Method::PUT, "/deployments", json, ""),
    ] {
        told.push(ask(&server, method, path, kind, body).await);
    }
    insta::assert_snapshot!(told.join("\n\n"));
    server.stop().await;
}

#[tokio::test]
async fn a_body_beyond_all_measure_is_refused() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let body = "x".repeat(2 * 1024 * 1024);
    let told = ask(&server, Method::POST, "/deployments", "application/json", &body).await;
    assert!(told.contains("-> 413") && told.contains("\"too-large\""), "{told}");
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_does_not_read_is_told_why() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    for (method, path, kind, status, why) in [
        (Method::GET, "/v1/events?after=zzz", "", 400, "after: invalid digit"),
        (Method::POST, "/deployments?revision=-1", "application/json", 400, "revision: invalid"),
        (Method::GET, "/deployments/%00%ff", "", 400, "Invalid UTF-8 in `name`"),
        (Method::GET, "/deployments/%00", "", 400, "may hold lower-case letters"),
        (Method::POST, "/deployments", "image/png", 415, "a manifest cannot be image/png"),
    ] {
        let told = ask(&server, method, path, kind, HELLO).await;
        assert!(told.contains(&format!("-> {status}")) && told.contains(why), "{told}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_health_says_what_is_wrong() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    crate::support::eventually("it is healthy", || async {
        let told = ask(&server, Method::GET, "/healthz", "", "").await;
        told.contains("-> 200").then_some(())
    })
    .await;
    server.app.nats_url.send_replace(None);
    let told = ask(&server, Method::GET, "/healthz", "", "").await;
    assert!(told.contains("-> 503") && told.contains("the mesh address is awaited"), "{told}");
    server.stop().await;
}

#[tokio::test]
async fn the_document_lists_every_path_and_all_it_refers_to() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let url = format!("{}/openapi.json", server.url);
    let request = reqwest::Client::new().get(url).bearer_auth(server.token.expose());
    let document: Value = request.send().await.unwrap().json().await.unwrap();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            "/v1/audit",
            "/v1/audit/check",
            "/v1/deployments",
            "/v1/deployments/{name}",
            "/v1/deployments/{name}/history",
            "/v1/deployments/{name}/restart",
            "/v1/deployments/{name}/rollback",
            "/v1/deployments/{name}/rollout",
            "/v1/deployments/{name}/rollout/{step}",
            "/v1/deployments/{name}/scale",
            "/v1/deployments/{name}/start",
            "/v1/deployments/{name}/stop",
            "/v1/deployments/{name}/why",
            "/v1/deployments/{name}/why-not",
            "/v1/events",
            "/v1/healthz",
            "/v1/identity",
            "/v1/instances",
            "/v1/join-tokens",
            "/v1/join-tokens/{token}",
            "/v1/networks",
            "/v1/networks/{name}",
            "/v1/nodes",
            "/v1/nodes/farewell",
            "/v1/nodes/pull",
            "/v1/nodes/register",
            "/v1/nodes/{node}",
            "/v1/nodes/{node}/approve",
            "/v1/nodes/{node}/reject",
            "/v1/ping",
            "/v1/projects",
            "/v1/projects/{name}",
            "/v1/registries",
            "/v1/registries/{host}",
            "/v1/registries/{host}/test",
            "/v1/secrets",
            "/v1/secrets/{name}",
            "/v1/tokens",
            "/v1/tokens/{id}",
            "/v1/volumes",
            "/v1/volumes/{name}",
            "/v1/whoami",
        ]
    );
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name} is missing");
    }
    server.stop().await;
}

#[tokio::test]
async fn only_who_signs_may_register_and_only_as_itself() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let disk = Disk::new(1);
    let accepted = disk.register(&server.api).await.unwrap();
    assert_eq!(accepted.subnet.to_string(), "10.208.0.0/24");
    assert!(!accepted.adopt);
    assert_eq!(
        Disk::new(2).register(&server.api).await.unwrap().subnet.to_string(),
        "10.208.1.0/24"
    );
    let again = disk.register(&server.api).await.unwrap();
    assert_eq!(again.subnet, accepted.subnet, "a node keeps its subnet");

    let send = |request: RegisterRequest, key: nkeys::KeyPair| {
        let signed = signed::sign(&key, Context::Register, &request).unwrap();
        server.api.register(signed)
    };
    let good = disk.request();
    let thief = nkeys::KeyPair::new_user();
    let stolen = RegisterRequest { nkey: thief.public_key(), ..good.clone() };
    let old = RegisterRequest { at: knit_rpc::Timestamp::from_millis(1), ..good.clone() };
    let loud = RegisterRequest { name: "a\u{1b}[2J".to_owned(), ..good.clone() };
    let keyless = RegisterRequest { nkey: "U".repeat(56), ..good.clone() };
    let nowhere = RegisterRequest { mesh_ip: [127, 0, 0, 1].into(), ..good.clone() };
    for (request, key, status, why) in [
        (keyless, disk.key(), 400, "nkey must be a user's public nkey"),
        (loud, disk.key(), 400, "name must be 1 to 253 printable"),
        (nowhere, disk.key(), 400, "mesh_ip must be an address that one host can have"),
        (good.clone(), nkeys::KeyPair::new_user(), 403, "the signature is not by"),
        (stolen, thief, 409, "registered with another key"),
        (old, disk.key(), 403, "clock"),
    ] {
        let error = send(request, key).await.unwrap_err();
        assert_eq!(error.status(), Some(status), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    server.app.nats_url.send_replace(None);
    let error = send(good, disk.key()).await.unwrap_err();
    assert_eq!(error.status(), Some(503));
    server.stop().await;
}

#[tokio::test]
async fn a_request_to_register_cannot_be_played_again() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let disk = Disk::new(1);
    let (early, request) = (disk.request(), disk.request());
    let send = |request: &RegisterRequest| {
        let signed = signed::sign(&disk.key(), Context::Register, request).unwrap();
        server.api.register(signed)
    };
    send(&request).await.unwrap();
    for again in [&request, &early] {
        let error = send(again).await.unwrap_err();
        assert_eq!(error.status(), Some(409));
        assert!(error.to_string().contains("may be played again: try again"), "{error}");
    }
    disk.register(&server.api).await.expect("the next try has a later time");
    // What is refused moves nothing: a time ahead within bounds counts once it was accepted.
    let ahead = knit_rpc::Timestamp::from_millis(u64::MAX);
    let refused = send(&RegisterRequest { at: ahead, ..disk.request() }).await.unwrap_err();
    assert_eq!(refused.status(), Some(403));
    disk.register(&server.api).await.unwrap();
    server.stop().await;
}
