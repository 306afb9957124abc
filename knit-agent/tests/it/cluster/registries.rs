//! Images from a registry that wants a login.

use std::process::Command;

use knit_rpc::api::PullCredentials;
use knit_rpc::message::Phase;
use serde_json::json;

use super::Host;
use crate::support::agent::instance;
use crate::support::dockerd::{IMAGE, web_command};
use crate::support::namespace::{in_namespace, run};
use crate::support::registry::{REGISTRY, Registry};
use crate::support::until;

/// In one of three alignments its base64 has letters that Docker 20.10 does not read.
const PASSWORD: &str = "planted>>>~~~???";

fn private(revision: u64) -> super::Instance {
    let spec = json!({"image": "team/web:1", "registry": REGISTRY, "command": web_command()});
    instance("web", revision, spec)
}

fn password(password: &str) -> PullCredentials {
    PullCredentials::Password { username: "ci".to_owned(), password: password.to_owned() }
}

async fn until_failed(host: &Host, instance: &super::Instance, why: &str) {
    let message = || {
        host.server.seen(|seen| {
            let found = seen.instances.get(&instance.0.id)?;
            (found.phase == Phase::Failed).then(|| found.message.clone())?
        })
    };
    until("it failed", || message().is_some()).await;
    let message = message().unwrap();
    assert!(message.contains(why), "{message}");
}

#[test]
fn each_pull_is_signed_in_with_what_the_server_has_then_and_nothing_is_kept() {
    in_namespace(|| async {
        let host = Host::new().await;
        let _registry = Registry::start_private(PASSWORD).await;
        let config = host.dir.path().join("docker");
        let docker = |words: &str| {
            let (config, socket) = (config.display(), host.dockerd.socket());
            run(&format!("docker --config {config} -H unix://{socket} {words}"))
        };
        let image = format!("{REGISTRY}/team/web:1");
        docker(&format!("login -u ci -p {PASSWORD} {REGISTRY}"));
        docker(&format!("tag {IMAGE} {image}"));
        docker(&format!("push {image}"));
        docker(&format!("rmi {image} {IMAGE}"));
        std::fs::remove_dir_all(&config).unwrap();

        let agent = host.agent();
        let node = agent.shared.identity.node.clone();
        let assign = |counter: u64, instance: &super::Instance| {
            let instances = std::slice::from_ref(instance).to_vec();
            let (server, node) = (host.server.clone(), node.clone());
            async move { server.assign(&node, counter, &instances).await }
        };
        let first = private(1);
        assign(1, &first).await;
        until_failed(
            &host,
            &first,
            &format!("no credentials for it (knit registry add {REGISTRY})"),
        )
        .await;

        host.server.seen(|seen| seen.credentials = Some(Ok(password("wrong"))));
        let second = private(2);
        assign(2, &second).await;
        let refused =
            format!("refused the credentials of project default (knit registry test {REGISTRY})");
        until_failed(&host, &second, &refused).await;

        let told = "registry r refused the credentials of project shop (knit registry test r)";
        host.server.seen(|seen| seen.credentials = Some(Err(told.to_owned())));
        let third = private(3);
        assign(3, &third).await;
        until_failed(&host, &third, told).await;

        host.server.seen(|seen| seen.credentials = Some(Ok(password(PASSWORD))));
        let fourth = private(4);
        assign(4, &fourth).await;
        host.until_phase(&fourth, Some(Phase::Running)).await;
        let asked = host.server.seen(|seen| seen.pulls.last().cloned()).expect("it asked");
        assert_eq!((asked.node, asked.instance), (node.clone(), fourth.0.id.clone()));
        assert_eq!(asked.image, image);
        agent.stop().await;
        let kept = Command::new("grep").args(["-rlF", PASSWORD]).arg(host.dir.path()).output();
        let kept = String::from_utf8(kept.unwrap().stdout).unwrap();
        assert_eq!(kept, "", "the agent's files hold the password");
    });
}
