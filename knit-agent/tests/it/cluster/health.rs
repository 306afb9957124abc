//! Probes on a real Docker, with a neighbour who looks at what is published.

use std::time::{Duration, Instant};

use knit_agent::agent::Agent;
use knit_agent::engine::Engine as _;
use knit_rpc::message::{InstanceStatus, Phase};
use knit_rpc::spec::RunPolicy;
use serde_json::json;

use super::{Host, Instance, PUBLISHED};
use crate::support::agent::instance;
use crate::support::dockerd::IMAGE;
use crate::support::namespace::{in_namespace, run};
use crate::support::until;

/// Listens at once; `/ready` is there after a moment.
fn slow(revision: u64, seconds: u32) -> Instance {
    let script = format!(
        "trap 'exit 0' TERM; echo {revision} > /www/index.html; \
         (sleep {seconds}; echo ready; touch /www/ready) & busybox httpd -f -p 80 -h /www & wait; wait"
    );
    instance(
        "web",
        revision,
        json!({
            "image": IMAGE,
            "command": ["/bin/sh", "-c", script],
            "ports": [{"container_port": 80, "host_port": 8080}],
        }),
    )
}

fn policy() -> RunPolicy {
    let health = json!({
        "ready": {"http": {"path": "/ready", "port": 80}},
        "alive": {"exec": {"command": ["/bin/busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"]}},
    });
    serde_json::from_value(json!({"health": health})).unwrap()
}

impl Host {
    async fn assign(&self, agent: &Agent, counter: u64, instances: &[Instance]) {
        let policy = policy();
        let mut kept = instances.to_vec();
        for (assigned, _) in &mut kept {
            assigned.policy = Some(policy.hash());
        }
        let node = agent.shared.identity.node.clone();
        let policies = [(policy.hash(), policy)].into();
        self.server.assign_with(&node, counter, &kept, |one| one.policies = policies).await;
    }

    fn status(&self, one: &Instance) -> Option<InstanceStatus> {
        self.server.seen(|seen| seen.instances.get(&one.0.id).cloned())
    }
}

#[test]
fn a_port_waits_for_the_probe_also_when_the_agent_is_killed_meanwhile() {
    in_namespace(|| async {
        let host = Host::new().await;
        let agent = host.agent();
        let first = slow(1, 1);
        host.assign(&agent, 1, std::slice::from_ref(&first)).await;
        until("it is not ready", || {
            host.status(&first).is_some_and(|status| {
                status.message.as_deref()
                    == Some("not ready yet: GET /ready on port 80: status 404")
            })
        })
        .await;
        assert_eq!(host.mesh.fetch(PUBLISHED), None);
        host.until_phase(&first, Some(Phase::Running)).await;
        assert_eq!(host.mesh.fetch(PUBLISHED).as_deref(), Some("1"));

        let load = host.mesh.load(PUBLISHED);
        let second = slow(2, 4);
        host.assign(&agent, 2, &[first.clone(), second.clone()]).await;
        host.until_phase(&second, Some(Phase::Starting)).await;
        agent.stop().await;
        let agent = host.agent();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(host.mesh.fetch(PUBLISHED).as_deref(), Some("1"), "who served goes on");
        host.until_phase(&second, Some(Phase::Running)).await;
        host.assign(&agent, 3, std::slice::from_ref(&second)).await;
        host.until_phase(&first, None).await;
        let answers = load.stop();
        let lost = answers.iter().filter(|answer| answer.is_none()).count();
        assert_eq!(lost, 0, "of {}", answers.len());
        assert_eq!(host.mesh.fetch(PUBLISHED).as_deref(), Some("2"));
        host.assign(&agent, 4, &[]).await;
        host.until_phase(&second, None).await;
        agent.stop().await;
    });
}

#[test]
fn what_hangs_is_up_again_within_ten_seconds() {
    in_namespace(|| async {
        let host = Host::new().await;
        let agent = host.agent();
        let one = slow(1, 0);
        host.assign(&agent, 1, std::slice::from_ref(&one)).await;
        host.until_phase(&one, Some(Phase::Running)).await;
        let container = host.status(&one).unwrap().container.unwrap();
        // The server of the container stands still: it takes connections and answers none.
        let processes = host.docker(&format!("top {container} -o pid,args"));
        let is_server =
            |line: &&str| line.split_whitespace().skip(1).take(2).eq(["busybox", "httpd"]);
        let server = processes.lines().find(is_server).unwrap();
        let pid = server.split_whitespace().next().unwrap();
        let died = Instant::now();
        run(&format!("kill -STOP {pid}"));
        until("it is started again", || {
            host.status(&one).is_some_and(|status| status.restarts == 1)
        })
        .await;
        assert!(died.elapsed() < Duration::from_secs(10), "{:?}", died.elapsed());
        host.until_phase(&one, Some(Phase::Running)).await;
        let answers = host.mesh.fetch(PUBLISHED);
        assert_eq!(answers.as_deref(), Some("1"));
        let why = host.server.seen(|seen| {
            let all = seen.reports.iter().flat_map(|report| &report.instances);
            all.filter(|status| status.phase == Phase::Restarting)
                .map(|status| (status.message.clone().unwrap_or_default(), status.log.clone()))
                .next()
        });
        let (message, log) = why.unwrap();
        assert!(message.starts_with("not alive: `/bin/busybox wget"), "{message}");
        assert_eq!(log, ["ready"]);
        host.assign(&agent, 2, &[]).await;
        host.until_phase(&one, None).await;
        agent.stop().await;
    });
}

#[test]
fn an_image_with_a_healthcheck_is_ready_when_docker_says_so() {
    in_namespace(|| async {
        let host = Host::new().await;
        host.dockerd.image_with_healthcheck("checked:1", "/bin/busybox test -e /www/ready").await;
        let agent = host.agent();
        let node = agent.shared.identity.node.clone();
        let (assigned, mut spec) = slow(1, 2);
        spec.image = "checked:1".to_owned();
        let one = (knit_rpc::message::AssignedInstance { spec: spec.hash(), ..assigned }, spec);
        host.server.assign(&node, 1, std::slice::from_ref(&one)).await;
        until("Docker is waited for", || {
            host.status(&one)
                .and_then(|status| status.message)
                .is_some_and(|message| message.starts_with("not ready yet: Docker's HEALTHCHECK: "))
        })
        .await;
        assert_eq!(host.mesh.fetch(PUBLISHED), None);
        host.until_phase(&one, Some(Phase::Running)).await;
        assert_eq!(host.mesh.fetch(PUBLISHED).as_deref(), Some("1"));

        let container = host.status(&one).unwrap().container.unwrap();
        host.docker(&format!("exec {container} /bin/busybox rm /www/ready"));
        until("it is started again", || {
            host.status(&one).is_some_and(|status| status.restarts == 1)
        })
        .await;
        host.until_phase(&one, Some(Phase::Running)).await;
        host.server.assign(&node, 2, &[]).await;
        host.until_phase(&one, None).await;
        agent.stop().await;
    });
}

#[test]
fn a_full_queue_of_questions_keeps_no_instance_from_being_asked() {
    in_namespace(|| async {
        let host = Host::new().await;
        let agent = host.agent();
        let count = 10;
        let all: Vec<Instance> = (0..count)
            .map(|slot| {
                let (mut assigned, mut spec) = slow(1, 0);
                spec.ports[0].host_port = 9_000 + u16::try_from(slot).unwrap();
                assigned.slot = slot;
                assigned.id = knit_rpc::id::InstanceId::derive(&assigned.deployment_id, slot, 1, 0);
                assigned.spec = spec.hash();
                (assigned, spec)
            })
            .collect();
        host.assign(&agent, 1, &all).await;
        for one in &all {
            host.until_phase(one, Some(Phase::Running)).await;
        }
        let engine = host.dockerd.engine();
        assert_eq!(engine.list(&host.owner(&agent)).await.unwrap().len(), all.len());
        host.assign(&agent, 2, &[]).await;
        for one in &all {
            host.until_phase(one, None).await;
        }
        agent.stop().await;
    });
}
