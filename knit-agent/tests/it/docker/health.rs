//! Probes, HEALTHCHECKs and last lines on a real Docker.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use knit_agent::engine::Engine as _;
use knit_agent::engine::docker::Docker;
use knit_agent_core::Container;
use knit_agent_core::observed::HealthState;
use knit_agent_core::probe::Answer;
use knit_rpc::spec::ProbeKind;
use serde_json::json;

use super::{network, owner, plan};
use crate::support::dockerd::{Dockerd, IMAGE};
use crate::support::namespace::in_namespace;
use crate::support::until;

const LIMIT: Duration = Duration::from_secs(2);

/// Serves /www on port 80; writes lines first.
const WEB: &str =
    "echo first; echo second; echo third; mkdir /www/empty; exec busybox httpd -f -p 80 -h /www";

struct Asked {
    engine: Docker,
    container: Container,
}

impl Asked {
    async fn ask(&self, kind: serde_json::Value) -> Answer {
        let kind: ProbeKind = serde_json::from_value(kind).unwrap();
        let address = self.container.address();
        self.engine.probe(&self.container.id, address, &kind, LIMIT).await
    }
}

fn ill(words: &str) -> Answer {
    Answer::Ill(words.to_owned())
}

#[test]
fn containers_are_asked_and_their_last_lines_read() {
    in_namespace(|| async {
        let (dockerd, owner) = (Dockerd::start().await, owner(1));
        let engine = dockerd.engine();
        engine.ensure_network(&network(&owner, "10.208.7.0/24")).await.unwrap();
        let spec = json!({"image": IMAGE, "command": ["/bin/sh", "-c", WEB]});
        let plan = plan(&owner, "web", spec);
        engine.create(&plan).await.unwrap();
        engine.start(&plan.name).await.unwrap();
        let container = engine.list(&owner).await.unwrap().remove(0);
        assert_eq!(container.healthcheck, None);
        let web = Asked { engine: engine.clone(), container };
        let address = web.container.address().unwrap();
        until("it listens", || std::net::TcpStream::connect((address, 80)).is_ok()).await;

        let get = |path: &str, port: u16| json!({"http": {"path": path, "port": port}});
        assert_eq!(web.ask(get("/nothing", 80)).await, ill("status 404"));
        assert_eq!(web.ask(get("/empty", 80)).await, Answer::Well, "a redirect is an answer");
        assert_eq!(web.ask(get("/", 81)).await, ill("connection refused"));
        assert_eq!(web.ask(json!({"tcp": {"port": 80}})).await, Answer::Well);
        assert_eq!(web.ask(json!({"tcp": {"port": 81}})).await, ill("connection refused"));
        let run = |command: &[&str]| json!({"exec": {"command": command}});
        assert_eq!(web.ask(run(&["/bin/busybox", "true"])).await, Answer::Well);
        let failing = web.ask(run(&["/bin/sh", "-c", "echo no; echo way; exit 3"])).await;
        assert_eq!(failing, ill("exit code 3: no way"));
        let Answer::Ill(words) = web.ask(run(&["/nope"])).await else { panic!("it was well") };
        assert!(words.contains("/nope"), "{words}");

        let lines = engine.log_tail(&web.container.id, 2).await.unwrap();
        assert_eq!(lines, ["second", "third"]);

        // What hangs is waited for no longer than its time, and only so much of it is left behind.
        let start = Instant::now();
        for _ in 0..4 {
            let hung = web.ask(run(&["/bin/busybox", "sleep", "1000"])).await;
            assert_eq!(hung, ill("no answer within 2000 ms"));
        }
        let refused = web.ask(run(&["/bin/busybox", "true"])).await;
        assert_eq!(refused, ill("4 earlier runs of it still hang"));
        assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());

        engine.stop(&web.container.id, Some(Duration::ZERO)).await.unwrap();
        let kind = ProbeKind::Exec { command: vec!["true".to_owned()] };
        let ended = engine.probe(&web.container.id, None::<Ipv4Addr>, &kind, LIMIT).await;
        assert!(
            matches!(&ended, Answer::Ill(words) if words.contains("is not running")),
            "{ended:?}"
        );
        assert_eq!(engine.log_tail(&web.container.id, 1).await.unwrap(), ["third"]);
        engine.remove(&plan.name).await.unwrap();
    });
}

#[test]
fn what_dockers_own_check_says_is_seen() {
    in_namespace(|| async {
        let (dockerd, owner) = (Dockerd::start().await, owner(1));
        let engine = dockerd.engine();
        engine.ensure_network(&network(&owner, "10.208.7.0/24")).await.unwrap();
        dockerd.image_with_healthcheck("checked:1", "/bin/busybox test -e /www/well").await;
        let script = "sleep 2; touch /www/well; sleep 3; rm /www/well; sleep 1000";
        let spec = json!({"image": "checked:1", "command": ["/bin/sh", "-c", script]});
        let plan = plan(&owner, "checked", spec);
        engine.create(&plan).await.unwrap();
        engine.start(&plan.name).await.unwrap();
        let mut states = Vec::new();
        let start = Instant::now();
        while states.last() != Some(&HealthState::Unhealthy) {
            assert!(start.elapsed() < crate::support::DEADLINE, "{states:?}");
            let found = engine.list(&owner).await.unwrap().remove(0);
            let check = found.healthcheck.unwrap();
            assert_eq!(check.first_within, Duration::from_secs(51), "with Docker's own 30 s");
            states.push(check.state);
            states.dedup();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let expected = [HealthState::Starting, HealthState::Healthy, HealthState::Unhealthy];
        assert_eq!(states, expected);
        let check = engine.list(&owner).await.unwrap().remove(0).healthcheck.unwrap();
        assert_eq!(check.answer, "exit code 1");
        engine.remove(&plan.name).await.unwrap();
    });
}
