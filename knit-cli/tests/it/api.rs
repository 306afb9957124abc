//! Commands against a server that gives prepared answers: what they ask, print and exit with.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// Answers to `METHOD /path?query`, in order: the last one that was prepared is given for ever.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answers: &[(&'static str, u16, Value)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (mut left, log) = (answers.to_vec(), Arc::clone(&asked));
        // Ends with the process: a test is over when its command is.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream, &mut left, &log);
            }
        });
        Self { url, asked }
    }

    fn knit(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_knit"))
            .args(args)
            .env("KNIT_SERVER", &self.url)
            .env_remove("KNIT_TOKEN")
            .env_remove("KNIT_TOKEN_FILE")
            .env_remove("KNIT_PROJECT")
            .env("XDG_CONFIG_HOME", "/nonexistent")
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }

    /// What was asked for, with the bodies.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Serves one request; every answer closes its connection.
fn answer(
    mut stream: TcpStream,
    left: &mut Vec<(&'static str, u16, Value)>,
    asked: &Mutex<Vec<String>>,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    reader.read_line(&mut head).unwrap();
    let request = head.rsplit_once(' ').map_or("", |(request, _)| request).to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    asked.lock().unwrap().push(format!("{request} {body}").trim_end().to_owned());
    let missing = ("", 404, refusal("nothing was prepared for this"));
    let fits = |(path, ..): &(&str, u16, Value)| *path == request;
    let found = left.iter().position(fits);
    let (_, status, body) = match found {
        Some(first) if left[first + 1..].iter().any(fits) => left.remove(first),
        Some(only) => left[only].clone(),
        None => missing,
    };
    let body = if status == 204 { String::new() } else { body.to_string() };
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).unwrap();
}

fn refusal(message: &str) -> Value {
    json!({"code": "conflict", "message": message, "request_id": "r"})
}

fn accepted(revision: u64) -> Value {
    json!({"project": "default", "name": "web", "revision": revision, "unchanged": false})
}

fn rollout(revision: u64, state: &str, cause: &Value) -> Value {
    json!({
        "revision": revision, "from": 1, "cause": cause, "state": state, "message": null,
        "log": [], "admitted": 1, "healthy": 1, "slots": 1, "notes": [], "started_at": 1,
        "ended_at": null,
    })
}

fn deployment(running: u32, state: &str, rollout: &Value) -> Value {
    json!({
        "project": "default", "name": "web", "revision": rollout["revision"], "replicas": 1,
        "running": running, "state": state, "image": "web:1", "created_at": 1, "updated_at": 1,
        "spec": {"name": "web", "image": "web:1"}, "instances": [], "unplaced": [],
        "stable_revision": 1, "rollout": rollout,
    })
}

fn node(name: &str, id: char, availability: &str, instances: u32, draining: &[&str]) -> Value {
    json!({
        "id": id.to_string().repeat(32), "name": name, "state": "ready", "message": null,
        "server": false, "mesh_ip": "10.0.0.1", "wg_pubkey": null, "endpoint": null,
        "mesh_last_seen": null, "last_heartbeat": null, "subnet": null, "labels": {"zone": "a"},
        "instances": instances, "arch": "amd64", "kernel": "6.1", "docker": "27.1.1",
        "agent_version": "0.1.0", "cpus": 2, "memory": 1, "disk": 1,
        "usage": {"cpu_percent": 0, "memory": 0, "disk": 0},
        "reserved": {"cpu_millis": 0, "memory": 0, "disk": 0}, "availability": availability,
        "draining": draining, "boot": "", "rebooted_at": null,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code and stderr.
fn ended(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), text(&output.stderr))
}

const WEB: &str = "GET /v1/deployments/web?project=default";

#[test]
fn scale_sends_each_number_and_follows_until_it_runs() {
    let cause = json!({"type": "scale"});
    let server = Server::new(&[
        ("POST /v1/deployments/web/scale?project=default", 202, accepted(2)),
        (WEB, 200, deployment(0, "deploying", &rollout(2, "running", &cause))),
        (WEB, 200, deployment(1, "running", &rollout(2, "succeeded", &cause))),
    ]);
    let (code, told) = ended(&server.knit(&["scale", "web=1"]));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("web is scaled to 1 replica: revision 2\n"), "{told}");
    assert!(told.ends_with("web runs: 1 of 1\n"), "{told}");
    let asked = server.asked();
    assert_eq!(asked[0], "POST /v1/deployments/web/scale?project=default {\"replicas\":1}");
}

#[test]
fn a_deploy_that_is_rolled_back_exits_with_6_and_says_why() {
    let mut back =
        rollout(3, "running", &json!({"type": "rollback", "to": 1, "of": 2, "automatic": true}));
    back["message"] = json!("web.0 on fra-1: exited with code 1");
    back["log"] = json!(["no database"]);
    let mut over = back.clone();
    over["state"] = json!("rolled-back");
    let server = Server::new(&[
        ("POST /v1/deployments", 202, accepted(2)),
        (WEB, 200, deployment(0, "deploying", &rollout(2, "running", &json!({"type": "deploy"})))),
        (WEB, 200, deployment(0, "deploying", &back)),
        (WEB, 200, deployment(1, "running", &over)),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.yaml");
    std::fs::write(&file, "name: web\nimage: web:1\n").unwrap();
    let (code, told) = ended(&server.knit(&["deploy", "-f", file.to_str().unwrap()]));
    assert_eq!(code, Some(6), "{told}");
    assert!(told.contains("revision 2 is given up, back to 1: web.0 on fra-1"), "{told}");
    let end = "web was rolled back to revision 1: web.0 on fra-1: exited with code 1\n\
               its last lines:\n  | no database\n";
    assert!(told.ends_with(end), "{told}");
}

#[test]
fn a_plan_changes_nothing_and_is_data() {
    let plan = json!({
        "project": "default", "name": "web", "revision": 2, "changed": ["image"],
        "recreates": ["image"], "unplaced": [], "notes": [],
        "slots": [{"slot": 0, "action": "replace", "from": "a", "to": "a", "because": null}],
    });
    let server = Server::new(&[("POST /v1/deployments?plan_only=true", 200, plan.clone())]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.yaml");
    std::fs::write(&file, "name: web\nimage: web:2\n").unwrap();
    let file = file.to_str().unwrap();
    let output = server.knit(&["deploy", "-f", file, "--plan-only"]);
    let shown = text(&output.stdout);
    assert!(shown.contains("new containers, because of: image\n"), "{shown}");
    assert!(shown.contains("web.0     replace  a     -\n"), "{shown}");
    let output = server.knit(&["deploy", "-f", file, "--plan-only", "-o", "json"]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), plan);
    assert_eq!(server.asked().len(), 2, "{:?}", server.asked());
}

#[test]
fn what_the_server_refuses_is_told_in_its_words() {
    let server = Server::new(&[(
        "POST /v1/deployments/web/rollback?project=default",
        409,
        refusal("deployment web has no earlier stable revision to go back to"),
    )]);
    let (code, told) = ended(&server.knit(&["rollback", "web"]));
    assert_eq!(code, Some(1));
    assert_eq!(told, "knit: deployment web has no earlier stable revision to go back to\n");
    assert!(server.asked()[0].ends_with("{\"to\":null}"), "{:?}", server.asked());
}

#[test]
fn a_drain_ends_when_nothing_is_left_or_says_what_stays() {
    let nodes =
        || json!([node("fra-1", 'a', "active", 2, &[]), node("fra-2", 'b', "active", 0, &[])]);
    let path = "/v1/nodes/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let (get, patch): (&'static str, &'static str) =
        (format!("GET {path}").leak(), format!("PATCH {path}").leak());
    let kept = "db.0 stays with its volume data";
    for (last, code, told) in [
        (node("fra-1", 'a', "draining", 0, &[]), 0, "fra-1 is empty\n"),
        (
            node("fra-1", 'a', "draining", 1, &[kept]),
            3,
            "fra-1 is not empty, and what is left stays for now:\n  db.0 stays with its volume data\n",
        ),
    ] {
        let server = Server::new(&[
            ("GET /v1/nodes", 200, nodes()),
            (patch, 200, node("fra-1", 'a', "draining", 2, &[])),
            (get, 200, node("fra-1", 'a', "draining", 2, &["web.0 moves to fra-2: pulling", kept])),
            (get, 200, last),
        ]);
        let (exit, said) = ended(&server.knit(&["node", "drain", "fra-1"]));
        assert_eq!(exit, Some(code), "{said}");
        assert!(said.contains("  web.0 moves to fra-2: pulling\n"), "{said}");
        assert!(said.ends_with(told), "{said}");
        let asked = server.asked();
        assert_eq!(asked[1], format!("{patch} {{\"availability\":\"draining\"}}"));
    }
}

#[test]
fn labels_are_set_and_taken_away_in_one_request() {
    let one = node("fra-1", 'a', "active", 0, &[]);
    let patch = "PATCH /v1/nodes/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let server = Server::new(&[("GET /v1/nodes", 200, json!([one.clone()])), (patch, 200, one)]);
    let (code, told) = ended(&server.knit(&["node", "label", "aaaa", "zone=a", "gpu-"]));
    assert_eq!((code, told.as_str()), (Some(0), "labels of fra-1: zone=a\n"));
    let body = r#"{"labels":{"gpu":null,"zone":"a"}}"#;
    assert_eq!(server.asked()[1], format!("{patch} {body}"));
}

#[test]
fn each_command_asks_its_own_path() {
    let cause = json!({"type": "deploy"});
    let paused = rollout(2, "paused", &cause);
    for (line, method, path, status, body) in [
        ("history web", "GET", "/v1/deployments/web/history?project=default", 200, json!([])),
        (
            "rollout status web",
            "GET",
            "/v1/deployments/web/rollout?project=default",
            200,
            paused.clone(),
        ),
        (
            "rollout pause web",
            "POST",
            "/v1/deployments/web/rollout/pause?project=default",
            200,
            paused.clone(),
        ),
        (
            "rollout promote web -d",
            "POST",
            "/v1/deployments/web/rollout/promote?project=default",
            200,
            paused.clone(),
        ),
        (
            "rollout abort web -d -p shop",
            "POST",
            "/v1/deployments/web/rollout/abort?project=shop",
            200,
            paused,
        ),
        ("restart web -d", "POST", "/v1/deployments/web/restart?project=default", 202, accepted(2)),
        ("start web -d", "POST", "/v1/deployments/web/start?project=default", 202, accepted(2)),
        ("stop web -d", "POST", "/v1/deployments/web/stop?project=default", 202, accepted(2)),
        (
            "undeploy web -d --volumes",
            "DELETE",
            "/v1/deployments/web?project=default&volumes=true",
            202,
            json!({}),
        ),
        (
            "why web.3",
            "GET",
            "/v1/deployments/web/why?project=default&slot=3",
            200,
            json!({"slots": []}),
        ),
        ("volume ls", "GET", "/v1/volumes", 200, json!([])),
        ("volume inspect data.0", "GET", "/v1/volumes/data.0?project=default", 200, json!([])),
        ("volume rm data -p shop", "DELETE", "/v1/volumes/data?project=shop", 202, json!({})),
        ("network ls", "GET", "/v1/networks", 200, json!([])),
        ("network rm backend", "DELETE", "/v1/networks/backend?project=default", 204, json!({})),
        ("list volumes", "GET", "/v1/volumes", 200, json!([])),
        ("list volumes -p shop", "GET", "/v1/volumes?project=shop", 200, json!([])),
        ("list instances -p shop", "GET", "/v1/instances?project=shop", 200, json!([])),
        ("list deployments -p shop", "GET", "/v1/deployments?project=shop", 200, json!([])),
        ("status -p shop", "GET", "/v1/deployments?project=shop", 200, json!([])),
        ("network ls -p shop", "GET", "/v1/networks?project=shop", 200, json!([])),
        ("project ls", "GET", "/v1/projects", 200, json!([])),
        ("project rm shop", "DELETE", "/v1/projects/shop", 204, json!({})),
    ] {
        let request: &'static str = format!("{method} {path}").leak();
        let server = Server::new(&[(request, status, body)]);
        let (code, told) = ended(&server.knit(&line.split(' ').collect::<Vec<_>>()));
        assert_eq!(code, Some(0), "{line}: {told}");
        assert_eq!(server.asked(), [request], "{line}");
    }
}

#[test]
fn a_network_is_made_as_it_was_described() {
    let spec = r#"{"project":"default","name":"backend","driver":"bridge","subnet":"10.20.0.0/24","internal":true}"#;
    let mut view: Value = serde_json::from_str(spec).unwrap();
    for (key, value) in [("used_by", json!([])), ("nodes", json!([])), ("created_at", json!(1))] {
        view[key] = value;
    }
    let server = Server::new(&[("POST /v1/networks?project=default", 201, view)]);
    let line = ["network", "create", "backend", "--subnet", "10.20.0.0/24", "--internal"];
    let (code, told) = ended(&server.knit(&line));
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(server.asked(), [format!("POST /v1/networks?project=default {spec}")]);
}

#[test]
fn a_manifest_goes_into_the_project_that_is_named_unless_it_names_another() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, named) = (dir.path().join("plain.yaml"), dir.path().join("named.yaml"));
    std::fs::write(&plain, "name: web\nimage: 'a:1'\n").unwrap();
    std::fs::write(&named, "name: web\nproject: blog\nimage: 'a:1'\n").unwrap();
    let answer = json!({"project": "shop", "name": "web", "revision": 1, "unchanged": false});
    let server = Server::new(&[("POST /v1/deployments?project=shop", 202, answer)]);
    let deploy = |file: &std::path::Path| {
        ended(&server.knit(&["deploy", "-d", "-p", "shop", "-f", file.to_str().unwrap()]))
    };
    let (code, told) = deploy(&plain);
    assert_eq!((code, told.as_str()), (Some(0), "web revision 1 accepted\n"));
    let (code, told) = deploy(&named);
    let why = ":2:10: project: is blog, but this was to go into project shop: which is it?";
    assert!(code == Some(1) && told.contains(why), "{told}");
    assert_eq!(server.asked().len(), 1, "nothing was sent");
}
