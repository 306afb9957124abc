//! Secrets on real hosts: what containers find, what follows a change, and where nothing is found.

mod traces;

use std::path::PathBuf;
use std::time::Instant;

use nix::mount::{MntFlags, umount2};
use serde_json::{Value, json};

use crate::support::{Cluster, IMAGE, host_of, hosts, stderr, wait_until};

fn set(cluster: &Cluster, name: &str, value: &str) -> String {
    let output = cluster.with_input(1, &["knit", "secret", "set", name], value);
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

/// Two replicas that get one secret as a file, as a variable, and in a template.
fn web(secret: &str) -> Value {
    json!({
        "name": "web",
        "image": IMAGE,
        "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait $!"],
        "replicas": 2,
        "max_per_node": 1,
        "secrets": [{ "name": secret }, { "name": secret, "env": "PASSWORD" }],
        "templates": [{
            "destination": "/etc/app.conf",
            "content": format!("password={{{{secret.{secret}}}}} on {{{{node.name}}}}\n"),
            "mode": "0440",
        }],
        "update": { "bake": "0s", "drain": "0s" },
    })
}

fn read(cluster: &Cluster, instance: &Value, what: &str) -> String {
    let container = instance["container"].as_str().unwrap();
    cluster.on(host_of(instance), &["docker", "exec", container, "sh", "-c", what])
}

/// Where a host's agent keeps secrets.
fn memory(cluster: &Cluster, host: u8) -> PathBuf {
    cluster.run_dir().join(host.to_string()).join("secrets")
}

/// Removes what a test set, whatever it left deployed.
fn forget(cluster: &Cluster, names: &[&str]) {
    cluster.put_in_order();
    for name in names {
        cluster.must("DELETE", &format!("/secrets/{name}"), &Value::Null);
    }
}

#[test]
fn a_secret_reaches_its_containers_is_rolled_out_when_it_changes_and_is_not_removed_while_used() {
    let cluster = hosts();
    set(&cluster, "db", "first");
    let warned = cluster.try_deploy(&web("db"));
    assert!(stderr(&warned).contains("docker inspect"), "{}", stderr(&warned));
    for instance in cluster.wait_running("web", 2) {
        assert_eq!(read(&cluster, &instance, "cat /run/secrets/db"), "first");
        assert_eq!(read(&cluster, &instance, "echo $PASSWORD"), "first");
        let conf = read(&cluster, &instance, "cat /etc/app.conf");
        assert_eq!(conf, format!("password=first on node-{}", host_of(&instance)));
        let refused = read(&cluster, &instance, "echo x > /run/secrets/db; true");
        assert_eq!(refused, "", "{refused}");
        assert_eq!(read(&cluster, &instance, "cat /run/secrets/db"), "first", "read-only");
    }

    let refused = cluster.ask("DELETE", "/secrets/db", &Value::Null).unwrap();
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body["message"].to_string().contains("is used by web"), "{refused:?}");

    let begin = Instant::now();
    assert!(set(&cluster, "db", "second").contains("rolled out now: web"));
    wait_until("the new value in both", || {
        let instances = cluster.wait_running("web", 2);
        let values: Vec<String> =
            instances.iter().map(|one| read_if(&cluster, one, "cat /run/secrets/db")).collect();
        if values == ["second", "second"] { Ok(()) } else { Err(format!("{values:?}")) }
    });
    println!("a rotated secret was in both containers after {:?}", begin.elapsed());
    let history = cluster.json(&["knit", "history", "web", "-o", "json"]);
    assert_eq!(history[0]["cause"], json!({"type": "secret", "name": "db", "version": 2}));
    for instance in cluster.wait_running("web", 2) {
        assert_eq!(read(&cluster, &instance, "echo $PASSWORD"), "second");
    }
    assert!(set(&cluster, "db", "second").contains("has this value already"));

    let unknown = cluster.try_deploy(&web("nobody"));
    assert!(stderr(&unknown).contains("there is no secret nobody"), "{}", stderr(&unknown));
    let audit = cluster.on(1, &["knit", "audit"]);
    for host in [1, 2, 3].into_iter().filter(|host| memory_has(&cluster, *host)) {
        let line = format!("node node-{host}");
        let delivered = audit
            .lines()
            .any(|entry| entry.contains(&line) && entry.contains("secret default/db version 2"));
        assert!(delivered, "{host}: {audit}");
    }
    cluster.on(1, &["knit", "undeploy", "web"]);
    wait_until("nothing left in memory", || {
        let left: Vec<u8> = cluster.nodes().filter(|host| memory_has(&cluster, *host)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    forget(&cluster, &["db"]);
}

/// Empty while the container is being replaced.
fn read_if(cluster: &Cluster, instance: &Value, what: &str) -> String {
    let container = instance["container"].as_str().unwrap_or_default();
    let output =
        cluster.try_on(host_of(instance), &["docker", "exec", container, "sh", "-c", what]);
    crate::support::stdout(&output)
}

fn memory_has(cluster: &Cluster, host: u8) -> bool {
    std::fs::read_dir(memory(cluster, host)).is_ok_and(|mut entries| entries.next().is_some())
}

#[test]
fn a_signalled_container_stays_and_finds_the_new_file() {
    let cluster = hosts();
    set(&cluster, "tls", "old");
    let proxy = json!({
        "name": "proxy",
        "image": IMAGE,
        "command": ["sh", "-c",
            "trap 'cat /run/secrets/key > /seen' HUP; trap 'exit 0' TERM; \
             while true; do sleep 1000 & wait $!; done"],
        "secrets": [{
            "name": "tls", "file": "/run/secrets/key", "mode": "0444", "uid": 1000, "gid": 1000,
            "on_change": "signal", "signal": "HUP",
        }],
    });
    cluster.roll_out(&proxy);
    let before = cluster.wait_running("proxy", 1)[0].clone();
    assert_eq!(read(&cluster, &before, "cat /run/secrets/key"), "old");
    let begin = Instant::now();
    assert!(set(&cluster, "tls", "new").contains("replaced in running containers: proxy"));
    wait_until("the signal", || {
        let seen = read_if(&cluster, &before, "cat /seen");
        if seen == "new" { Ok(()) } else { Err(seen) }
    });
    println!("a signalled secret was seen after {:?}", begin.elapsed());
    let after = cluster.wait_running("proxy", 1)[0].clone();
    assert_eq!(after["container"], before["container"], "it is the same container");
    forget(&cluster, &["tls"]);
}

#[test]
fn a_host_that_was_booted_anew_has_its_secrets_back_without_the_server() {
    let cluster = hosts();
    set(&cluster, "db", "kept");
    let mut manifest = web("db");
    manifest["replicas"] = json!(1);
    manifest["where"] = json!("name == \"node-2\"");
    manifest.as_object_mut().unwrap().remove("max_per_node");
    cluster.roll_out(&manifest);
    cluster.wait_running("web", 1);

    cluster.kill(1, "server");
    for part in ["agent", "dockerd"] {
        cluster.kill(2, part);
    }
    let memory = memory(&cluster, 2);
    umount2(&memory, MntFlags::MNT_DETACH).unwrap();
    assert!(!memory_has(&cluster, 2), "a boot empties what is in memory");
    for part in ["dockerd", "agent"] {
        cluster.start_part(2, part);
    }
    wait_until("the container is back with its secret", || {
        let list = ["docker", "ps", "-q", "--filter", "label=knit.cluster"];
        let ids = crate::support::stdout(&cluster.try_on(2, &list));
        let Some(id) = ids.lines().next() else { return Err("no container runs".to_owned()) };
        let read = ["docker", "exec", id, "cat", "/run/secrets/db", "/etc/app.conf"];
        let found = crate::support::stdout(&cluster.try_on(2, &read));
        if found == "keptpassword=kept on node-2" { Ok(()) } else { Err(found) }
    });
    cluster.start_part(1, "server");
    forget(&cluster, &["db"]);
}
