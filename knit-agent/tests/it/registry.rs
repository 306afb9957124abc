//! Pulling from a real registry.

use knit_agent::engine::Engine as _;
use knit_agent_core::container;
use serde_json::json;

use crate::support::agent::instance;
use crate::support::dockerd::{Dockerd, IMAGE};
use crate::support::namespace::{in_namespace, run};
use crate::support::registry::{REGISTRY, Registry};

#[test]
fn an_image_that_is_missing_is_pulled_from_its_registry() {
    in_namespace(|| async {
        let (dockerd, _registry) = (Dockerd::start().await, Registry::start().await);
        let engine = dockerd.engine();
        let docker = |words: &str| run(&format!("docker -H unix://{} {words}", dockerd.socket()));
        let (_, spec) = instance("web", 1, json!({"image": "team/web:1", "registry": REGISTRY}));
        let image = container::image(&spec);
        assert_eq!(image, format!("{REGISTRY}/team/web:1"));

        docker(&format!("tag {IMAGE} {image}"));
        docker(&format!("push {image}"));
        docker(&format!("rmi {image} {IMAGE}"));
        assert!(!engine.has_image(&image).await.unwrap(), "it is gone from here");
        engine.pull(&image, &|_| {}).await.unwrap();
        assert!(engine.has_image(&image).await.unwrap());

        let error = engine.pull(&format!("{REGISTRY}/team/web:2"), &|_| {}).await.unwrap_err();
        assert!(error.is_permanent(), "{error}");
        assert!(error.to_string().contains("manifest"), "Docker's own words: {error}");
    });
}
