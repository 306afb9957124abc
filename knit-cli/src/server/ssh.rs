//! `ssh://[USER@]HOST[:PORT][/SOCKET]`: the socket of a server's host, for who is outside the mesh
//! and may log in there. Whoever is root there needs no token, by the word of that kernel.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail};
use knit_link::http::{ApiClient, HttpError};
use knit_rpc::api::API_SOCKET;
use knit_runtime::ssh::{Target, Tunnel};

const SCHEME: &str = "ssh://";

/// Tunnels that are open, each with its address.
static OPEN: Mutex<Vec<(String, Tunnel)>> = Mutex::new(Vec::new());

pub(super) fn is_address(url: &str) -> bool {
    url.trim().starts_with(SCHEME)
}

/// A client of the server behind an ssh; one connection carries all that is asked.
pub(super) async fn client(url: &str) -> anyhow::Result<ApiClient> {
    let url = url.trim();
    let (target, socket) = parse(url)?;
    let known = |open: &[(String, Tunnel)]| {
        let known = open.iter().find(|(address, _)| address == url);
        known.map(|(_, tunnel)| tunnel.socket().to_owned())
    };
    let mut near = known(&OPEN.lock().unwrap_or_else(PoisonError::into_inner));
    if near.is_none() {
        let tunnel = Tunnel::open(&target, &socket).await?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.push((url.to_owned(), tunnel));
        near = known(&open);
    }
    let path = near.context("the ssh that was just started is gone")?;
    let client = ApiClient::on_socket(&path)?.known_as(url);
    if let Err(HttpError::Unreachable { .. }) = client.ping().await {
        bail!(
            "ssh reached {target}, but no server answers there on {}: does knit-server run on it (for \
             another socket write {SCHEME}{target}/PATH), may this user reach that path, and does its \
             sshd allow AllowStreamLocalForwarding, as it does by default?",
            socket.display()
        );
    }
    Ok(client)
}

/// Ends every ssh.
pub(crate) fn close() {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

fn parse(url: &str) -> anyhow::Result<(Target, PathBuf)> {
    let rest = url.strip_prefix(SCHEME).unwrap_or(url);
    let (host, socket) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let target = Target::parse(host)
        .with_context(|| format!("\"{}\" is no address of a server", url.escape_debug()))?;
    let socket = if socket.len() > 1 { socket } else { API_SOCKET };
    // ssh would take what is behind a colon for another end.
    anyhow::ensure!(
        !socket.contains([':', '\n', '\0']),
        "\"{}\" is no address of a server: the path of a socket has no colon",
        url.escape_debug()
    );
    Ok((target, socket.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_host_and_may_name_a_socket() {
        for (url, host, socket) in [
            ("ssh://root@fra-1", "root@fra-1", API_SOCKET),
            ("ssh://fra-1:2222/", "fra-1:2222", API_SOCKET),
            ("ssh://root@[::1]:22/tmp/a.sock", "root@[::1]:22", "/tmp/a.sock"),
        ] {
            let (target, path) = parse(url).unwrap();
            assert_eq!((target.to_string().as_str(), path.to_str().unwrap()), (host, socket));
        }
        for url in
            ["ssh://", "ssh://-oProxyCommand=id", "ssh:///tmp/x", "ssh://h/a:b", "ssh://h o/"]
        {
            let error = parse(url).unwrap_err();
            assert!(error.to_string().contains("is no address of a server"), "{error}");
        }
    }
}
