//! What the socket is told, and who watches.

use knit_rpc::jsonrpc::{MeshDetail, MeshStatus};
use meshctl_core::mesh::Event;
use tokio::sync::watch;

use super::super::net::interfaces::LanAddress;
use super::super::net::multicast::Multicast;
use super::super::rotation;
use super::super::rpc_server::{Query, view};
use super::Actor;

impl Actor {
    pub(super) async fn answer(&mut self, query: Query, dirty: &mut bool) {
        let now = self.clock.now();
        // A client that went away does not want its answer.
        match query {
            Query::Status(to) => drop(to.send(self.status())),
            Query::Peers(to) => {
                let peers = self.mesh.active_peers(now);
                drop(to.send(peers.iter().map(view::peer_info).collect()));
            }
            Query::Peer(key, to) => {
                let peer = key.parse().ok().and_then(|key| self.mesh.peer(&key));
                drop(to.send(peer.as_ref().map(view::peer_info)));
            }
            Query::Endpoint(ip, to) => drop(to.send(self.mesh.endpoint_of_address(ip))),
            Query::Metrics(to) => {
                let status = self.status();
                drop(to.send(self.measured.render(&self.mesh, &status, now)));
            }
            Query::Detail(to) => drop(to.send(self.detail())),
            Query::PeerDetails(to) => {
                let peers = self.mesh.peer_details(now);
                drop(to.send(peers.iter().map(view::mesh_peer).collect()));
            }
            Query::KeptOut(to) => {
                drop(to.send(self.mesh.kept_out().map(view::kept_out).collect()));
            }
            Query::Rotate { secret, grace_secs, to } => {
                let begun = rotation::begin(&self.mesh, &self.state, &secret, grace_secs);
                let answer = match begun {
                    Ok(successor) => {
                        let until = successor.until;
                        tracing::info!(
                            until = view::rfc3339(until),
                            "accepting the new mesh secret beside the old one"
                        );
                        self.on(Event::Rotate(Box::new(successor)), dirty).await;
                        Ok(view::rfc3339(until))
                    }
                    Err(error) => Err(format!("{error:#}")),
                };
                let _ = to.send(answer);
            }
            Query::Revoke(revocation, to) => {
                let signed = revocation.is_signed_by(&self.mesh.settings().trust.authorities);
                if signed {
                    self.on(Event::Revoked(revocation), dirty).await;
                }
                let _ = to.send(signed);
            }
            Query::Count(to) => {
                let active = self.mesh.active_count(now);
                let _ = to.send(view::peer_count(active, self.mesh.peers_total()));
            }
        }
    }

    pub(super) fn status(&self) -> MeshStatus {
        let settings = self.mesh.settings();
        let unheard = self.mesh.unheard_peers(self.clock.now());
        MeshStatus {
            mesh_ip: self.mesh.mesh_ip().to_string(),
            pubkey: settings.public_key.to_string(),
            uptime: self.clock.uptime_nanos(),
            interface: self.interface.clone(),
            version: view::VERSION.to_owned(),
            engine: Some(self.device.engine().to_owned()),
            hostname: Some(settings.hostname.clone()),
            unheard: Some(unheard.iter().map(ToString::to_string).collect()),
            membership: view::membership(&self.mesh, self.clock.now()),
            rotation: view::rotation(&self.mesh, self.clock.now()),
        }
    }

    fn detail(&self) -> MeshDetail {
        let multicast = self.sockets.multicast.as_ref();
        let lan: Vec<LanAddress> =
            multicast.into_iter().flat_map(Multicast::joined).cloned().collect();
        view::detail(self.status(), &self.mesh, &lan, self.clock.now())
    }

    /// Tells watchers and the service manager, if anything but the uptime has changed.
    pub(super) fn publish(&mut self, statuses: &watch::Sender<MeshStatus>) {
        let status = self.status();
        statuses.send_if_modified(|last| {
            let same = MeshStatus { uptime: last.uptime, ..status.clone() } == *last;
            if !same {
                *last = status.clone();
            }
            !same
        });
        let peers = self.mesh.active_count(self.clock.now());
        let text = format!("{}, {peers} peers", status.mesh_ip);
        if text != self.said {
            knit_runtime::notify::status(&text);
            self.said = text;
        }
    }
}
