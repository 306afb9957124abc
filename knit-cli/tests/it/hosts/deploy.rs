//! What a user deploys, and what a user gets wrong.

use std::io::{BufRead as _, BufReader, Read as _};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{Cluster, IMAGE, hosts, stderr, wait_until};

/// A web server that shows its template.
pub(super) fn web(name: &str, replicas: u32, host_port: u16) -> Value {
    json!({
        "name": name,
        "image": IMAGE,
        "replicas": replicas,
        // The first process of a container does not heed SIGTERM unless it says so.
        "command": ["sh", "-c", "trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait $!"],
        "ports": [{ "container_port": 80, "host_port": host_port, "protocol": "tcp" }],
        "env": { "GREETING": "hi" },
        "templates": [{
            "destination": "/www/index.html",
            "content": "<p>{{env.GREETING}} from {{node.name}}</p>",
        }],
    })
}

/// The deployment is refused or fails at once, and says this.
#[track_caller]
fn assert_refused(cluster: &Cluster, manifest: &Value, code: i32, words: &[&str]) {
    let start = Instant::now();
    let output = cluster.try_deploy(manifest);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{text}\n{}", cluster.logs());
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
    assert!(start.elapsed() < Duration::from_secs(15), "took {:?}: {text}", start.elapsed());
}

#[test]
fn a_page_answers_on_every_hosts_mesh_address_and_names_its_host() {
    let cluster = hosts();
    cluster.deploy(&web("hello", 3, 8080));
    for node in cluster.nodes() {
        for from in cluster.nodes() {
            let page = cluster.page(from, node, 8080);
            assert_eq!(
                page,
                Ok(format!("<p>hi from node-{node}</p>")),
                "from {from}\n{}",
                cluster.logs()
            );
        }
    }
}

#[test]
fn the_mesh_and_the_server_show_the_same_hosts() {
    let cluster = hosts();
    let nodes = cluster.json(&["meshctl", "nodes", "-o", "json"]);
    let nodes = nodes.as_array().unwrap();
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    for node in cluster.nodes() {
        let name = format!("node-{node}");
        let shown = nodes.iter().find(|shown| shown["name"] == name).unwrap();
        assert_eq!(shown["mesh_ip"], cluster.mesh_ip(node), "{shown}");
        assert_eq!(shown["state"], "ready", "{shown}");
    }
}

#[test]
fn a_name_can_be_used_again_at_once() {
    let cluster = hosts();
    for round in 0..3 {
        cluster.deploy(&web("again", 2, 8081));
        assert!(cluster.on(1, &["knit", "status", "again"]).contains("2/2"), "round {round}");
        cluster.on(1, &["knit", "undeploy", "again"]);
        for node in cluster.nodes() {
            let all = ["docker", "ps", "-aq", "--filter", "label=knit.cluster"];
            assert_eq!(cluster.on(node, &all), "", "round {round}, node {node}");
        }
    }
}

#[test]
fn an_image_that_does_not_exist_fails_with_dockers_words_within_seconds() {
    let cluster = hosts();
    let mut manifest = web("missing", 1, 8082);
    manifest["image"] = json!("knit-no-such-image:1");
    assert_refused(&cluster, &manifest, 3, &["missing.0 on node-", "knit-no-such-image"]);
    let status = cluster.on(1, &["knit", "status", "missing"]);
    assert!(status.contains("failed") && status.contains("knit-no-such-image"), "{status}");
}

#[test]
fn a_selector_that_matches_no_node_is_named() {
    let cluster = hosts();
    let mut manifest = web("nowhere", 1, 8083);
    manifest["node_selector"] = json!({ "role": "gpu" });
    assert_refused(&cluster, &manifest, 3, &["nowhere.0 has no node", "role=gpu"]);
}

#[test]
fn a_template_with_an_unknown_variable_is_named() {
    let cluster = hosts();
    let mut manifest = web("template", 1, 8084);
    manifest["templates"][0]["content"] = json!("{{env.NOT_THERE}}");
    assert_refused(&cluster, &manifest, 3, &["NOT_THERE"]);
}

#[test]
fn an_unknown_network_is_named() {
    let cluster = hosts();
    let mut manifest = web("network", 1, 8085);
    manifest["network"] = json!("no-such-network");
    assert_refused(&cluster, &manifest, 3, &["no-such-network"]);
}

#[test]
fn what_is_wrong_in_the_manifest_is_refused_before_it_is_stored() {
    let cluster = hosts();
    let mut manifest = web("wrong", 1, 8086);
    manifest["templates"][0]["destination"] = json!("relative/index.html");
    assert_refused(&cluster, &manifest, 1, &["destination"]);
    assert_eq!(cluster.on(1, &["knit", "list", "deployments", "-o", "name"]), "");
}

#[test]
fn a_port_that_a_process_of_the_host_has_is_refused_with_its_name() {
    let cluster = hosts();
    let listener = ["sh", "-c", "busybox nc -ll -p 8087 -e true >/dev/null 2>&1 & echo $!"];
    let pids: Vec<String> = cluster.nodes().map(|node| cluster.on(node, &listener)).collect();
    let output = cluster.try_deploy(&web("taken", 1, 8087));
    for pid in &pids {
        cluster.on(1, &["kill", pid]);
    }
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("8087") && text.contains("busybox"), "{text}");
}

#[test]
fn a_new_revision_takes_the_place_of_the_old_one() {
    let cluster = hosts();
    cluster.deploy(&web("change", 2, 8088));
    let mut changed = web("change", 2, 8088);
    changed["env"]["GREETING"] = json!("bye");
    cluster.deploy(&changed);
    wait_until("the new page on both hosts, and nothing old", || {
        let instances = cluster.instances();
        let pages: Vec<_> = instances
            .iter()
            .map(|instance| instance["node_name"].as_str().unwrap()[5..].parse().unwrap())
            .map(|node| cluster.page(1, node, 8088))
            .collect();
        let good = pages.iter().all(|page| page.as_ref().is_ok_and(|page| page.contains("bye")));
        if good && pages.len() == 2 { Ok(()) } else { Err(format!("{pages:?} {instances:?}")) }
    });
}

#[test]
fn who_interrupts_the_waiting_leaves_the_deployment_running() {
    let cluster = hosts();
    let mut manifest = web("patient", 1, 8089);
    // Nothing fits, so there is something to wait for.
    manifest["node_selector"] = json!({ "role": "gpu" });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("patient.json").display().to_string();
    std::fs::write(&file, manifest.to_string()).unwrap();
    let mut deploy = cluster.spawn_on(1, &["knit", "deploy", "-f", &file]);
    let mut said = BufReader::new(deploy.stderr.take().unwrap());
    // What was accepted is told before the waiting begins; before that an interrupt is answered
    // with other words.
    let mut text = String::new();
    while !text.contains("accepted") {
        assert_ne!(said.read_line(&mut text).unwrap(), 0, "{text}");
    }
    kill(Pid::from_raw(i32::try_from(deploy.id()).unwrap()), Signal::SIGINT).unwrap();
    said.read_to_string(&mut text).unwrap();
    assert_eq!(deploy.wait().unwrap().code(), Some(130), "{text}");
    assert!(text.contains("the server goes on"), "{text}");
    assert_eq!(cluster.on(1, &["knit", "list", "deployments", "-o", "name"]), "patient");
}
