//! Pulling from a real registry.

use knit_agent::engine::Engine as _;
use knit_agent_core::container;
use knit_rpc::api::PullCredentials;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

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
        engine.pull(&image, None, &|_| {}).await.unwrap();
        assert!(engine.has_image(&image).await.unwrap());

        let error =
            engine.pull(&format!("{REGISTRY}/team/web:2"), None, &|_| {}).await.unwrap_err();
        assert!(error.is_permanent(), "{error}");
        assert!(error.to_string().contains("manifest"), "Docker's own words: {error}");
    });
}

/// The headers of requests for a manifest to a registry that wants a token.
async fn manifest_requests(listener: TcpListener, to: tokio::sync::mpsc::Sender<Vec<String>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let to = to.clone();
        tokio::spawn(async move {
            let (reader, mut writer) = stream.into_split();
            let mut lines = BufReader::new(reader).lines();
            let mut head = Vec::new();
            // What is no HTTP is Docker's try with TLS.
            while let Ok(Some(line)) = lines.next_line().await {
                if !line.is_empty() {
                    head.push(line);
                    continue;
                }
                let status = if head[0].contains("/manifests/") {
                    to.send(std::mem::take(&mut head)).await.unwrap();
                    "404 Not Found"
                } else {
                    head.clear();
                    "401 Unauthorized"
                };
                let challenge = format!("Bearer realm=\"http://{REGISTRY}/token\"");
                let answer = format!(
                    "HTTP/1.1 {status}\r\nwww-authenticate: {challenge}\r\ncontent-length: 0\r\n\r\n"
                );
                if writer.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

#[test]
fn a_token_goes_to_the_registry_as_it_is() {
    in_namespace(|| async {
        let dockerd = Dockerd::start().await;
        let listener = TcpListener::bind(REGISTRY).await.unwrap();
        let (sender, mut requests) = tokio::sync::mpsc::channel(64);
        let serving = tokio::spawn(manifest_requests(listener, sender));
        // Its base64 has letters that Docker 20.10 does not read.
        let token = "for>>>minutes???".to_owned();
        let image = format!("{REGISTRY}/team/web:1");
        let credentials = PullCredentials::Token(token.clone());
        dockerd.engine().pull(&image, Some(&credentials), &|_| {}).await.unwrap_err();
        let head = requests.recv().await.expect("it asked for the manifest");
        let expected = format!("authorization: bearer {token}");
        assert!(head.iter().any(|line| line.to_lowercase() == expected), "{head:?}");
        serving.abort();
    });
}
