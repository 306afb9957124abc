//! Whatever happens to a container is seen, though most reads inspect nothing.

use futures_util::StreamExt as _;
use knit_agent::engine::Engine as _;
use knit_agent_core::{Container, ContainerState};

use super::{network, owner, plan, sleeper};
use crate::support::dockerd::Dockerd;
use crate::support::namespace::{in_namespace, run};

/// Whether the container now is what a change should have made of the one before.
type Holds = fn(&Container, &Container) -> bool;

#[test]
fn what_others_do_to_a_container_is_seen() {
    in_namespace(|| async {
        let (dockerd, owner) = (Dockerd::start().await, owner(1));
        let engine = dockerd.engine();
        engine.ensure_network(&network(&owner, "10.208.7.0/24")).await.unwrap();
        let mut events = engine.events(&owner);
        let listening = tokio::spawn(async move { while events.next().await.is_some() {} });
        let mut names = Vec::new();
        for name in ["one", "two", "three"] {
            let plan = plan(&owner, name, sleeper());
            engine.create(&plan).await.unwrap();
            engine.start(&plan.name).await.unwrap();
            names.push(plan.name);
        }
        let seen = |name: &str| {
            let (engine, owner, name) = (engine.clone(), owner.clone(), name.to_owned());
            async move {
                let found = engine.list(&owner).await.unwrap();
                assert_eq!(found.len(), 3);
                found.into_iter().find(|one| one.name == name).unwrap()
            }
        };
        let before = seen(&names[0]).await;
        let others = (seen(&names[1]).await, seen(&names[2]).await);
        let changes: [(&str, Holds); 6] = [
            ("restart -t 0", |now, before| now.started_at > before.started_at),
            ("pause", |now, _| now.state == ContainerState::Paused),
            ("unpause", |now, _| now.state == ContainerState::Running),
            ("network disconnect knit", |now, _| now.networks.is_empty()),
            ("kill", |now, _| now.exit_code == Some(137)),
            ("start", |now, _| now.state == ContainerState::Running),
        ];
        for (change, holds) in changes {
            run(&format!("docker -H unix://{} {change} {}", dockerd.socket(), names[0]));
            let start = std::time::Instant::now();
            while !holds(&seen(&names[0]).await, &before) {
                assert!(start.elapsed() < crate::support::DEADLINE, "not seen: {change}");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        assert_eq!((seen(&names[1]).await, seen(&names[2]).await), others);
        listening.abort();
    });
}
