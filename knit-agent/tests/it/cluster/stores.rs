//! Networks and volumes, from their assignment to their end.

use knit_rpc::message::{NetworkSpec, Phase};
use serde_json::{Value, json};

use super::{Host, Instance, PUBLISHED};
use crate::support::agent::instance;
use crate::support::dockerd::{IMAGE, web_command};
use crate::support::namespace::{in_namespace, run};
use crate::support::until;

fn network(json: Value) -> NetworkSpec {
    serde_json::from_value(json).unwrap()
}

fn sleeper(name: &str, revision: u64, more: Value) -> Instance {
    let script = "trap 'exit 0' TERM; while :; do busybox sleep 0.1; done";
    let mut spec = json!({"image": IMAGE, "command": ["/bin/sh", "-c", script]});
    let Value::Object(more) = more else { panic!("{more} is no object") };
    spec.as_object_mut().unwrap().extend(more);
    instance(name, revision, spec)
}

impl Host {
    pub(super) fn docker(&self, words: &str) -> String {
        run(&format!("docker -H unix://{} {words}", self.dockerd.socket()))
    }

    fn name(one: &Instance) -> String {
        let assigned = &one.0;
        format!("knit.default.{}.{}.{}", assigned.deployment, assigned.slot, assigned.id)
    }

    fn message(&self, one: &Instance) -> String {
        let message =
            |seen: &mut crate::support::server::Seen| seen.instances[&one.0.id].message.clone();
        self.server.seen(message).unwrap_or_default()
    }
}

#[test]
fn instances_meet_on_a_network_by_name_and_it_goes_with_the_last_of_them() {
    in_namespace(|| async {
        let host = Host::new().await;
        let agent = host.agent();
        let node = agent.shared.identity.node.clone();
        host.docker("network create mine");
        // Alphabetically first, and so the one that ports lead to, is the one without a way out.
        let web = instance(
            "web",
            1,
            json!({
                "image": IMAGE, "command": web_command(),
                "networks": ["back", "front"],
                "ports": [{"container_port": 80, "host_port": 8080}],
                "templates": [{"destination": "/www/index.html", "content": "hello"}],
            }),
        );
        let db = sleeper("db", 1, json!({"networks": ["back"]}));
        let back = network(json!({"name": "back", "internal": true, "subnet": "10.77.0.0/24"}));
        let front = network(json!({"name": "front"}));
        let both = [web.clone(), db.clone()];
        host.server
            .assign_with(&node, 1, &both, |assignment| {
                assignment.networks = vec![back.clone(), front];
            })
            .await;
        host.until_phase(&web, Some(Phase::Running)).await;
        host.until_phase(&db, Some(Phase::Running)).await;
        until("it answers the mesh", || host.mesh.fetch(PUBLISHED).is_some()).await;
        let asked = format!("exec {} /bin/busybox wget -qO- http://web/", Host::name(&db));
        assert_eq!(host.docker(&asked), "hello");
        let networks = || host.docker("network ls --format {{.Name}}");
        assert!(networks().contains("knit.default.back"));

        host.server
            .assign_with(&node, 2, std::slice::from_ref(&db), |assignment| {
                assignment.networks = vec![back];
            })
            .await;
        until("nobody is on the front any more", || !networks().contains("knit.default.front"))
            .await;
        assert!(networks().contains("knit.default.back"));
        host.server.assign(&node, 3, &[]).await;
        until("nor on the back", || !networks().contains("knit.default")).await;
        assert!(networks().contains("mine"), "what is the user's stays");
        agent.stop().await;
    });
}

#[test]
fn a_network_that_overlaps_the_hosts_is_refused_until_it_does_not() {
    in_namespace(|| async {
        let host = Host::new().await;
        run("ip link add eth7 type bridge");
        run("ip addr add 10.1.2.1/24 dev eth7");
        let agent = host.agent();
        let one = sleeper("db", 1, json!({"networks": ["backend"]}));
        let backend = network(json!({"name": "backend", "subnet": "10.1.0.0/16"}));
        let node = &agent.shared.identity.node;
        host.server
            .assign_with(node, 1, std::slice::from_ref(&one), |assignment| {
                assignment.networks = vec![backend];
            })
            .await;
        host.until_phase(&one, Some(Phase::Failed)).await;
        let expected = "network backend: 10.1.0.0/16 overlaps 10.1.2.0/24 of eth7";
        assert_eq!(host.message(&one), expected);
        run("ip addr del 10.1.2.1/24 dev eth7");
        host.until_phase(&one, Some(Phase::Running)).await;
        agent.stop().await;
    });
}

#[test]
fn data_stays_for_the_next_revision_and_a_volume_of_others_is_refused() {
    in_namespace(|| async {
        let host = Host::new().await;
        let agent = host.agent();
        let node = agent.shared.identity.node.clone();
        let volumes = json!([{"name": "data", "path": "/data"}]);
        let db = |revision| sleeper("db", revision, json!({"volumes": volumes}));
        let (old, new) = (db(1), db(2));
        host.server.assign(&node, 1, std::slice::from_ref(&old)).await;
        host.until_phase(&old, Some(Phase::Running)).await;
        host.docker(&format!("exec {} /bin/busybox touch /data/kept", Host::name(&old)));
        host.server.assign(&node, 2, std::slice::from_ref(&new)).await;
        host.until_phase(&new, Some(Phase::Running)).await;
        host.until_phase(&old, None).await;
        let listed = host.docker(&format!("exec {} /bin/busybox ls /data", Host::name(&new)));
        assert_eq!(listed.trim(), "kept");

        host.docker("volume create knit.default.taken.0");
        let taken = json!([{"name": "taken", "path": "/data"}]);
        let other = sleeper("other", 1, json!({"volumes": taken}));
        host.server.assign(&node, 3, &[new, other.clone()]).await;
        host.until_phase(&other, Some(Phase::Failed)).await;
        let message = host.message(&other);
        assert!(message.contains("\"knit.default.taken.0\" that is not this node's"), "{message}");
        host.docker("volume rm knit.default.taken.0");
        agent.stop().await;
    });
}
