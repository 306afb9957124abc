//! What goes on when something is away or moves: the server, a mesh address.

use std::path::Path;

use serde_json::{Value, json};

use super::deploy::web;
use crate::support::{Cluster, IMAGE, hosts, stderr, wait_until};

/// Gives a node's sidecar another address of the mesh, as after a clash; the new one.
fn move_address(cluster: &Cluster, node: u8, from: &str) -> String {
    let (network, last) = from.rsplit_once('.').unwrap();
    let to = format!("{network}.{}", if last == "77" { 78 } else { 77 });
    cluster.kill(node, "mesh");
    let file = cluster.data_dir().join(format!("{node}/mesh/wg0.json"));
    let text = std::fs::read(&file).unwrap();
    let mut state: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(state["mesh_ip"], from, "{state}");
    state["mesh_ip"] = json!(to);
    std::fs::write(&file, state.to_string()).unwrap();
    cluster.start_part(node, "mesh");
    to
}

fn curl(cluster: &Cluster, from: u8, address: &str, port: u16) -> Result<String, String> {
    let url = format!("http://{address}:{port}/");
    let output = cluster.try_on(from, &["curl", "-sS", "--fail", "--max-time", "2", &url]);
    if output.status.success() { Ok(crate::support::stdout(&output)) } else { Err(stderr(&output)) }
}

/// A home on node 2 that is logged in to the server at its mesh address.
fn log_in(cluster: &Cluster) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let token = cluster.on(1, &["knit", "token", "create", "mover", "--role", "viewer"]);
    let told = cluster.on(1, &["knit", "whoami", "-o", "json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let url = format!("http://{}:7400", cluster.mesh_ip(1));
    let key = told["server_key"].as_str().unwrap();
    let path = format!("HOME={}", home.path().display());
    let knit = ["env", "-u", "KNIT_SERVER", &path, "knit"];
    let login = [&knit, ["login", &url, "--server-key", key].as_slice()].concat();
    cluster.on_with(2, &login, &token);
    home
}

/// Waits until the server, wherever it is now, shows every node ready at these addresses, to one
/// that logged in before it moved.
#[track_caller]
fn wait_ready_at(cluster: &Cluster, home: &Path, addresses: &[String]) {
    let path = format!("HOME={}", home.display());
    wait_until("all nodes ready at their new addresses", || {
        let knit = ["env", "-u", "KNIT_SERVER", &path, "knit", "list", "nodes", "-o", "json"];
        let output = cluster.try_on(2, &knit);
        let nodes: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let right = addresses.iter().enumerate().all(|(index, address)| {
            let name = format!("node-{}", index + 1);
            nodes.iter().any(|node| {
                node["name"] == name && node["mesh_ip"] == *address && node["state"] == "ready"
            })
        });
        if right { Ok(()) } else { Err(format!("{nodes:?} {}", stderr(&output))) }
    });
}

#[test]
fn a_mesh_address_that_moves_takes_bus_ports_and_server_along_and_no_container() {
    let cluster = Cluster::start(&format!("t{}-move", std::process::id()), 2);
    cluster.load_image();
    cluster.deploy(&web("mover", 2, 8080));
    let before: Vec<_> = cluster.nodes().map(|node| cluster.containers(node)).collect();
    let mut addresses: Vec<String> = cluster.nodes().map(|node| cluster.mesh_ip(node)).collect();
    let home = log_in(&cluster);

    // Node 2 has an agent only, node 1 the server and NATS as well.
    for node in [2, 1] {
        let index = usize::from(node) - 1;
        let old = addresses[index].clone();
        addresses[index] = move_address(&cluster, node, &old);
        wait_ready_at(&cluster, home.path(), &addresses);
        for (from, of) in [(1, 2), (2_u8, 1_u8)] {
            let address = &addresses[usize::from(of) - 1];
            wait_until("the page at the new address", || {
                let page = curl(&cluster, from, address, 8080)?;
                if page == format!("<p>hi from node-{of}</p>") { Ok(()) } else { Err(page) }
            });
        }
        assert!(curl(&cluster, 3 - node, &old, 8080).is_err(), "{old} is given up");
    }
    let after: Vec<_> = cluster.nodes().map(|node| cluster.containers(node)).collect();
    assert_eq!(after, before, "no container was touched\n{}", cluster.logs());
}

#[test]
fn nodes_work_on_without_a_server_through_restarts_of_agent_and_containers() {
    let cluster = hosts();
    cluster.deploy(&web("alone", 3, 8080));
    cluster.kill(1, "server");
    let container = cluster.on(2, &["docker", "ps", "-q", "--filter", "label=knit.cluster"]);
    cluster.kill(2, "agent");
    cluster.on(2, &["docker", "rm", "-f", &container]);
    cluster.start_part(2, "agent");
    wait_until("the container, made again with no server", || {
        cluster
            .page(1, 2, 8080)
            .and_then(|page| if page == "<p>hi from node-2</p>" { Ok(()) } else { Err(page) })
    });
    cluster.start_part(1, "server");
    cluster.wait_ready();
    wait_until("the server to know of it", || {
        let status = cluster.on(1, &["knit", "status", "alone"]);
        if status.contains("3/3") { Ok(()) } else { Err(status) }
    });
}

#[test]
fn a_server_that_lost_its_database_removes_nothing() {
    let cluster = hosts();
    cluster.deploy(&web("kept", 3, 8080));
    let before: Vec<_> = cluster.nodes().map(|node| cluster.containers(node)).collect();
    cluster.kill(1, "server");
    let state = cluster.data_dir().join("1/server");
    for file in ["knit.db", "knit.db-wal", "knit.db-shm"] {
        let _ = std::fs::remove_file(state.join(file));
    }
    std::fs::remove_dir_all(state.join("nats")).unwrap();
    cluster.start_part(1, "server");
    cluster.wait_ready();
    wait_until("the server to have taken in what the nodes run", || {
        let output = cluster.try_on(1, &["knit", "status", "kept"]);
        let text = crate::support::stdout(&output);
        if text.contains("3/3") { Ok(()) } else { Err(format!("{text}{}", stderr(&output))) }
    });
    let after: Vec<_> = cluster.nodes().map(|node| cluster.containers(node)).collect();
    assert_eq!(after, before, "same containers, never restarted\n{}", cluster.logs());
    cluster.on(1, &["knit", "undeploy", "kept"]);
}

#[test]
fn a_manifest_of_the_first_version_deploys_with_only_its_image_changed() {
    let cluster = hosts();
    // What nginx does by itself, the image's default command does.
    let serve = r#"CMD ["httpd", "-f", "-p", "80", "-h", "/usr/share/nginx/html"]"#;
    for node in cluster.nodes() {
        let id = cluster.on(node, &["docker", "create", IMAGE, "true"]);
        cluster.on(node, &["docker", "commit", "--change", serve, &id, "knit-test-web:1"]);
        cluster.on(node, &["docker", "rm", &id]);
    }
    cluster.deploy(&json!({
        "name": "hello",
        "image": "knit-test-web:1",
        "node_selector": {"role": "web"},
        "ports": [{"container_port": 80, "host_port": 8080, "protocol": "tcp"}],
        "templates": [{
            "destination": "/usr/share/nginx/html/index.html",
            "content": "<p>{{env.GREETING}} from {{node.name}}</p>",
        }],
        "env": {"GREETING": "hi"},
    }));
    let node = cluster.instances()[0]["node_name"].as_str().unwrap().to_owned();
    let number: u8 = node.trim_start_matches("node-").parse().unwrap();
    assert_eq!(cluster.page(1, number, 8080), Ok(format!("<p>hi from {node}</p>")));
}
