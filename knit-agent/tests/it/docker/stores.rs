//! Volumes and networks that users named.

use knit_agent::engine::Engine as _;
use knit_agent_core::container::ContainerPlan;
use knit_agent_core::network::NetworkPlan;
use knit_agent_core::volume;
use knit_rpc::message::NetworkSpec;
use knit_rpc::spec::VolumeName;
use serde_json::json;

use super::{owner, permanent, plan, sleeper};
use crate::support::dockerd::{Dockerd, IMAGE};
use crate::support::namespace::{in_namespace, run};

fn writer(script: &str, read_only: bool) -> ContainerPlan {
    let mut data = json!({"name": "data", "path": "/data"});
    data["read_only"] = json!(read_only);
    let command = ["/bin/sh", "-c", script];
    let spec = json!({"image": IMAGE, "command": command, "volumes": [data], "networks": ["none"]});
    plan(&owner(1), "db", spec)
}

#[test]
fn a_volume_outlives_its_containers_until_it_is_removed() {
    in_namespace(|| async {
        let (dockerd, owner) = (Dockerd::start().await, owner(1));
        let engine = dockerd.engine();
        let name = VolumeName::parse("default/data.0").unwrap();
        for _ in 0..2 {
            engine.ensure_volume(&volume::plan(&owner, &name)).await.unwrap();
        }
        assert_eq!(engine.volumes(&owner).await.unwrap(), [name.clone()].into());
        assert!(engine.volumes(&super::owner(2)).await.unwrap().is_empty(), "another node's");

        for (script, read_only, expected) in [
            ("echo hello > /data/file", false, 0),
            ("busybox grep -q hello /data/file", true, 0),
            ("echo no > /data/file", true, 1),
        ] {
            let container = writer(script, read_only);
            assert_eq!(container.labels["knit.volumes"], "default/data.0");
            engine.create(&container).await.unwrap();
            engine.start(&container.name).await.unwrap();
            let socket = dockerd.socket();
            let code = run(&format!("docker -H unix://{socket} wait {}", container.name));
            assert_eq!(code.trim(), expected.to_string(), "{script}");
            let held = engine.remove_volume(&owner, &name).await.unwrap_err();
            assert!(held.to_string().contains("in use"), "{held}");
            engine.remove(&container.name).await.unwrap();
        }
        engine.remove_volume(&super::owner(2), &name).await.unwrap();
        assert_eq!(engine.volumes(&owner).await.unwrap().len(), 1, "not theirs to remove");
        for _ in 0..2 {
            engine.remove_volume(&owner, &name).await.unwrap();
        }
        assert!(engine.volumes(&owner).await.unwrap().is_empty());
    });
}

#[test]
fn a_volume_that_is_not_ours_is_neither_used_nor_removed() {
    in_namespace(|| async {
        let (dockerd, owner) = (Dockerd::start().await, owner(1));
        let engine = dockerd.engine();
        let docker = |words: &str| run(&format!("docker -H unix://{} {words}", dockerd.socket()));
        docker("volume create knit.default.data.0");
        let name = VolumeName::parse("default/data.0").unwrap();
        let error = permanent(engine.ensure_volume(&volume::plan(&owner, &name)).await);
        assert!(error.starts_with("there is a Docker volume \"knit.default.data.0\""), "{error}");
        engine.remove_volume(&owner, &name).await.unwrap();
        assert!(docker("volume ls -q").contains("knit.default.data.0"));
        assert!(engine.volumes(&owner).await.unwrap().is_empty());
    });
}

#[test]
fn networks_are_made_as_named_and_removed_when_nobody_is_on_them() {
    in_namespace(|| async {
        let (dockerd, owner) = (Dockerd::start().await, owner(1));
        let engine = dockerd.engine();
        let spec = |subnet: &str, internal: bool| -> NetworkSpec {
            let json = json!({"name": "backend", "subnet": subnet, "internal": internal});
            serde_json::from_value(json).unwrap()
        };
        let name = "knit.default.backend";
        for (subnet, internal) in
            [("10.77.0.0/16", false), ("10.77.0.0/16", false), ("10.78.0.0/16", true)]
        {
            let wanted = NetworkPlan::of(&owner, &spec(subnet, internal));
            engine.ensure_network(&wanted).await.unwrap();
            let shown = engine.networks().await.unwrap();
            let found = shown.iter().find(|one| one.name == name).unwrap();
            assert!(wanted.is(found), "{found:?}");
            let bridge = found.bridge.as_ref().unwrap();
            let link = run(&format!("ip link show {bridge}"));
            assert!(link.contains("mtu 1420") || link.contains("NO-CARRIER"), "{link}");
        }
        let mut one = plan(&owner, "web", sleeper());
        one.networks = vec![name.to_owned()];
        engine.create(&one).await.unwrap();
        engine.start(&one.name).await.unwrap();
        let found = engine.list(&owner).await.unwrap().remove(0);
        assert!(found.address().unwrap().to_string().starts_with("10.78."));
        assert!(engine.remove_network(&owner, name).await.is_err(), "a container is on it");
        let other = NetworkPlan::of(&owner, &spec("10.79.0.0/16", true));
        engine.ensure_network(&other).await.unwrap();
        assert_eq!(engine.list(&owner).await.unwrap(), [found], "it was left as it was");

        engine.remove(&one.name).await.unwrap();
        engine.remove_network(&super::owner(2), name).await.unwrap();
        assert!(engine.networks().await.unwrap().iter().any(|one| one.name == name));
        for _ in 0..2 {
            engine.remove_network(&owner, name).await.unwrap();
        }
        assert!(!engine.networks().await.unwrap().iter().any(|one| one.name == name));
    });
}
