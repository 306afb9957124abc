//! Network namespaces: a hub with a bridge, and one per node, joined by veth pairs.
//!
//! ```text
//! knit-dev-1 [eth0 172.31.255.1]──[port1 ┐
//! knit-dev-2 [eth0 172.31.255.2]──[port2 ┤ knitdev0 172.31.255.254] knit-dev-hub
//! ```
//!
//! The pairs are born inside their namespaces: the host's own interfaces, addresses and routes are
//! never touched. The hub answers for the rest of the world with "prohibited", so a node has a
//! default route, as real hosts do, and what asks beyond it fails at once (of the kernel's ICMP
//! answers, "unreachable" would be kept from a UDP socket, and DNS would wait).
//!
//! Invariant: only namespaces whose names the layout gives are made or removed.

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::layout::{self, BRIDGE, Layout, UNDERLAY_PREFIX};
use super::plan::NodePlan;

/// What went wrong with a namespace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    #[error("cannot run `ip` (package iproute2)")]
    Ip(#[source] io::Error),
    #[error("`ip` refused: {0}")]
    Refused(String),
    #[error("cannot enter the network namespace {}", path.display())]
    Enter { path: PathBuf, source: io::Error },
}

/// Makes the hub and the nodes' namespaces, with addresses, routes and settings.
pub(crate) async fn create(layout: &Layout, nodes: &[NodePlan]) -> Result<(), NamespaceError> {
    let hub = layout.hub_netns();
    let mut script = format!("netns add {hub}\n");
    for netns in nodes.iter().filter_map(|node| node.netns.as_deref()) {
        let _ = writeln!(script, "netns add {netns}");
    }
    batch(None, &script).await?;
    let mut script = String::new();
    for node in nodes {
        if let Some(netns) = &node.netns {
            let port = port(node.number);
            let _ = writeln!(
                script,
                "link add eth0 netns {netns} type veth peer name {port} netns {hub}"
            );
        }
    }
    batch(None, &script).await?;
    configure_hub(&hub, nodes).await?;
    let configured = nodes.iter().map(configure_node);
    futures_util::future::try_join_all(configured).await?;
    Ok(())
}

async fn configure_hub(hub: &str, nodes: &[NodePlan]) -> Result<(), NamespaceError> {
    let address = layout::hub_address();
    let mut script = format!(
        "link set lo up\nlink add {BRIDGE} type bridge\nlink set {BRIDGE} up\n\
         addr add {address}/{UNDERLAY_PREFIX} dev {BRIDGE}\nroute add prohibit default\n"
    );
    for node in nodes {
        let _ = writeln!(script, "link set {} master {BRIDGE} up", port(node.number));
    }
    batch(Some(hub), &script).await?;
    settings(hub, &[("ipv4/ip_forward", "1"), ("ipv4/icmp_ratelimit", "0")]).await
}

async fn configure_node(node: &NodePlan) -> Result<(), NamespaceError> {
    let (Some(netns), Some(address)) = (&node.netns, node.underlay) else { return Ok(()) };
    let script = format!(
        "link set lo up\naddr add {address}/{UNDERLAY_PREFIX} dev eth0\nlink set eth0 up\n\
         route add default via {}\n",
        layout::hub_address()
    );
    batch(Some(netns), &script).await?;
    settings(netns, &[("ipv4/ip_forward", "1")]).await
}

fn port(number: u8) -> String {
    format!("port{number}")
}

/// Removes every namespace of this instance, and with them all interfaces inside.
pub(crate) async fn remove(layout: &Layout) -> Result<(), NamespaceError> {
    let mut script = String::new();
    for name in existing(layout) {
        let _ = writeln!(script, "netns del {name}");
    }
    if script.is_empty() { Ok(()) } else { batch(None, &script).await }
}

/// Namespaces of this instance that exist.
pub(crate) fn existing(layout: &Layout) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| layout.owns_netns(name)).collect();
    names.sort();
    names
}

async fn settings(netns: &str, settings: &[(&str, &str)]) -> Result<(), NamespaceError> {
    let settings: Vec<(String, String)> = settings
        .iter()
        .map(|(key, value)| (format!("/proc/sys/net/{key}"), (*value).to_owned()))
        .collect();
    inside(&layout::netns_path(netns), move || {
        settings.iter().try_for_each(|(path, value)| std::fs::write(path, value))
    })
    .await
}

/// Opens a TCP connection as a program inside the namespace would.
pub(crate) async fn connect(
    netns: Option<&Path>,
    address: SocketAddr,
) -> Result<tokio::net::TcpStream, NamespaceError> {
    let open = move || {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    let fault = |source| NamespaceError::Enter { path: PathBuf::from("host"), source };
    let stream = match netns {
        Some(netns) => inside(netns, open).await?,
        None => tokio::task::spawn_blocking(open)
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(fault)?,
    };
    tokio::net::TcpStream::from_std(stream).map_err(fault)
}

/// Runs `work` on a thread of its own inside the namespace; what it opens stays there.
pub(crate) async fn inside<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, NamespaceError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let netns = path.to_owned();
    std::thread::spawn(move || {
        let _ = sender.send(enter(&netns).and_then(|()| work()));
    });
    let result = receiver.await.unwrap_or_else(|_| Err(io::Error::other("the thread died")));
    result.map_err(|source| NamespaceError::Enter { path: path.to_owned(), source })
}

/// Moves the calling thread into the namespace.
pub(crate) fn enter(path: &Path) -> io::Result<()> {
    let file = std::fs::File::open(path)?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}

async fn batch(netns: Option<&str>, script: &str) -> Result<(), NamespaceError> {
    let mut command = Command::new("ip");
    if let Some(netns) = netns {
        command.args(["-n", netns]);
    }
    command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(NamespaceError::Ip)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).await.map_err(NamespaceError::Ip)?;
    }
    let output = child.wait_with_output().await.map_err(NamespaceError::Ip)?;
    if output.status.success() {
        return Ok(());
    }
    Err(NamespaceError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
