//! A node's Docker, as far as `knit dev` itself talks to it.

use std::io;
use std::path::Path;

use serde::Deserialize;

use super::plain_http;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
}

/// The version of the Docker behind `socket`, if it answers.
pub(crate) async fn version(socket: &Path) -> Option<String> {
    let answer = plain_http::unix(socket, "GET", "/version").await.ok()?;
    let version: Version = serde_json::from_slice(&answer.body).ok()?;
    answer.is_success().then_some(version.version)
}

/// Removes all containers by force. Stopping them politely would take ten seconds for each that
/// does not listen to SIGTERM.
pub(crate) async fn remove_containers(socket: &Path) -> io::Result<()> {
    let answer = plain_http::unix(socket, "GET", "/containers/json?all=1").await?;
    let containers: Vec<Container> = serde_json::from_slice(&answer.body)?;
    let removals = containers.iter().map(|container| async move {
        let path = format!("/containers/{}?force=1&v=1", container.id);
        plain_http::unix(socket, "DELETE", &path).await
    });
    futures_util::future::join_all(removals).await;
    Ok(())
}
