//! Joins the two halves, by public key. A key that two nodes claim gives two rows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use knit_rpc::api::NodeView;
use knit_rpc::jsonrpc::PeerInfo;
use serde::Serialize;

use super::MeshHalf;

/// One host, as `-o json` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) state: String,
    /// Why it is not ready, in the server's words.
    pub(super) message: Option<String>,
    pub(super) mesh_ip: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) last_seen: Option<Timestamp>,
    pub(super) latency_ms: Option<u64>,
    pub(super) instances: Option<u32>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// The node id; absent for a peer without an agent.
    pub(super) id: Option<String>,
    pub(super) pubkey: Option<String>,
    /// Whether this is the host that was asked.
    pub(super) local: bool,
    /// Whether the server runs there.
    pub(super) server: bool,
}

pub(super) fn merge(mesh: Option<&MeshHalf>, nodes: &[NodeView]) -> Vec<Row> {
    let mut rows: Vec<Row> = nodes.iter().map(of_server).collect();
    if let Some(mesh) = mesh {
        let local = of_local(mesh);
        add(&mut rows, &local, |row| row.local = true);
        for peer in &mesh.peers {
            let seen = of_peer(peer);
            add(&mut rows, &seen, |row| row.latency_ms = seen.latency_ms);
        }
    }
    rows.sort_by(|left, right| (&left.name, &left.pubkey).cmp(&(&right.name, &right.pubkey)));
    rows
}

/// Lays what the mesh sees over the rows with its key, or adds a row of its own.
fn add(rows: &mut Vec<Row>, seen: &Row, mark: impl Fn(&mut Row)) {
    let mut known = false;
    for row in rows.iter_mut().filter(|row| row.pubkey.is_some() && row.pubkey == seen.pubkey) {
        known = true;
        // The local daemon's view is fresher than what the server last heard.
        row.mesh_ip = seen.mesh_ip.clone().or(row.mesh_ip.take());
        row.endpoint = seen.endpoint.clone().or(row.endpoint.take());
        row.last_seen = row.last_seen.max(seen.last_seen);
        mark(row);
    }
    if !known {
        rows.push(seen.clone());
    }
}

fn of_server(node: &NodeView) -> Row {
    let heard = [node.mesh_last_seen, node.last_heartbeat].into_iter().flatten().max();
    Row {
        name: node.name.clone(),
        state: node.state.as_str().to_owned(),
        message: node.message.clone(),
        mesh_ip: node.mesh_ip.map(|ip| ip.to_string()),
        endpoint: node.endpoint.clone().filter(|endpoint| !endpoint.is_empty()),
        last_seen: heard
            .and_then(|at| Timestamp::from_millisecond(i64::try_from(at.as_millis()).ok()?).ok()),
        latency_ms: None,
        instances: Some(node.instances),
        labels: Some(node.labels.clone()),
        id: node.id.as_ref().map(ToString::to_string),
        pubkey: node.wg_pubkey.clone(),
        local: false,
        server: node.server,
    }
}

fn of_local(mesh: &MeshHalf) -> Row {
    let local = &mesh.local;
    Row { local: true, ..discovered(local.hostname.clone(), &local.mesh_ip, &local.pubkey) }
}

fn of_peer(peer: &PeerInfo) -> Row {
    Row {
        endpoint: filled(&peer.endpoint),
        last_seen: peer.last_seen.parse().ok(),
        latency_ms: peer.latency_ms,
        ..discovered(filled(&peer.hostname), &peer.mesh_ip, &peer.pubkey)
    }
}

/// A host of which only the mesh knows.
fn discovered(name: Option<String>, mesh_ip: &str, pubkey: &str) -> Row {
    Row {
        name: name.unwrap_or_else(|| mesh_ip.to_owned()),
        state: "discovered".to_owned(),
        message: None,
        mesh_ip: filled(mesh_ip),
        endpoint: None,
        last_seen: None,
        latency_ms: None,
        instances: None,
        labels: None,
        id: None,
        pubkey: filled(pubkey),
        local: false,
        server: false,
    }
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use knit_rpc::jsonrpc::MeshStatus;

    fn node(name: &str, key: &str) -> NodeView {
        serde_json::from_value(serde_json::json!({
            "id": null, "name": name, "state": "ready", "message": null, "server": false,
            "mesh_ip": "10.1.0.1", "wg_pubkey": key, "endpoint": "", "mesh_last_seen": null,
            "last_heartbeat": 1_800_000_000_000_u64, "subnet": null, "labels": {"role": "web"},
            "instances": 2, "arch": "", "kernel": "", "docker": null, "agent_version": "",
            "cpus": 1, "memory": 1, "disk": 1, "usage": {}, "reserved": {},
            "availability": "active", "boot": "",
        }))
        .unwrap()
    }

    fn peer(key: &str) -> PeerInfo {
        PeerInfo {
            pubkey: key.into(),
            hostname: format!("host-{key}"),
            mesh_ip: "10.1.0.9".into(),
            endpoint: "192.0.2.9:51820".into(),
            last_seen: "2027-01-15T13:30:05+05:30".into(),
            latency_ms: Some(3),
            ..PeerInfo::default()
        }
    }

    #[test]
    fn the_halves_meet_by_key_and_the_mesh_is_fresher() {
        let local =
            MeshStatus { mesh_ip: "10.1.0.1".into(), pubkey: "a".into(), ..MeshStatus::default() };
        let mesh = MeshHalf { local, peers: vec![peer("b"), peer("c")] };
        let rows = merge(Some(&mesh), &[node("alpha", "a"), node("beta", "b")]);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.name.as_str(), row.state.as_str(), row.mesh_ip.as_deref(), row.local))
            .collect();
        assert_eq!(
            shown,
            [
                ("alpha", "ready", Some("10.1.0.1"), true),
                ("beta", "ready", Some("10.1.0.9"), false),
                ("host-c", "discovered", Some("10.1.0.9"), false),
            ]
        );
        assert_eq!(rows[1].last_seen, Some("2027-01-15T08:00:05Z".parse().unwrap()));
        assert_eq!((rows[1].latency_ms, rows[1].instances), (Some(3), Some(2)));
        assert_eq!((rows[2].instances, &rows[2].labels), (None, &None));
    }

    #[test]
    fn one_half_is_enough_and_duplicates_show() {
        let rows = merge(None, &[node("one", "a"), node("two", "a")]);
        assert_eq!(rows.len(), 2);
        let mesh = MeshHalf {
            local: MeshStatus { pubkey: "a".into(), ..MeshStatus::default() },
            peers: vec![],
        };
        assert!(merge(Some(&mesh), &[node("one", "a"), node("two", "a")]).iter().all(|r| r.local));
        assert_eq!(merge(Some(&mesh), &[])[0].state, "discovered");
    }
}
