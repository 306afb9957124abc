//! The one task that owns the mesh state and the device: events in, effects done.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use ipnet::Ipv4Net;
use knit_rpc::jsonrpc::{MeshDetail, MeshStatus};
use meshctl_core::authority::Certificate;
use meshctl_core::envelope::{self, Kind, NONCE_LEN};
use meshctl_core::key::PublicKey;
use meshctl_core::mesh::{Effect, Event, Mesh, PeerConfig, Probe};
use meshctl_core::state_file::Identity;
use meshctl_core::stun::StunAnswer;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::forwarding::Forwarding;
use super::metrics::Measured;
use super::net::exchange::Exchange;
use super::net::interfaces::LanAddress;
use super::net::multicast::Multicast;
use super::net::{Datagram, probe};
use super::rotation;
use super::rpc_server::{Query, view};
use super::state::StateDir;
use super::wg::{Links, WireGuard};

const TICK: Duration = Duration::from_millis(100);
const DEVICE_POLL: Duration = Duration::from_secs(1);
const RESCAN: Duration = Duration::from_secs(2);
const KEEP_PEERS_EVERY: Duration = Duration::from_secs(30);
/// Outcomes of probes that may wait for the actor.
pub(super) const PROBES_MAX: usize = 256;
/// Any port does: the packet is for the tunnel, not for its receiver.
const POKE_PORT: u16 = 9;

pub(super) struct Sockets {
    pub(super) exchange: Exchange,
    pub(super) multicast: Option<Multicast>,
}

/// Where the actor's events come from, its own clocks aside.
pub(super) struct Inputs {
    pub(super) datagrams: mpsc::Receiver<Datagram>,
    pub(super) queries: mpsc::Receiver<Query>,
    pub(super) seeds: mpsc::Receiver<Vec<SocketAddr>>,
    pub(super) probed: mpsc::Receiver<(PublicKey, Probe)>,
    pub(super) stun: mpsc::Receiver<Vec<StunAnswer>>,
    pub(super) certificates: mpsc::Receiver<Certificate>,
}

pub(super) struct Actor {
    pub(super) clock: Clock,
    pub(super) mesh: Mesh,
    pub(super) device: Box<dyn WireGuard>,
    pub(super) links: Links,
    pub(super) sockets: Sockets,
    pub(super) state: StateDir,
    pub(super) identity: Identity,
    pub(super) interface: String,
    /// The mesh addresses that are on the interface.
    pub(super) address: watch::Sender<Option<IpAddr>>,
    pub(super) address_v6: watch::Sender<Option<IpAddr>>,
    /// Whether the log says already that the host has no IPv6 for the mesh.
    pub(super) ipv6_refused: bool,
    /// An introducer's.
    pub(super) forwarding: Option<Forwarding>,
    /// Stop and leave the interface to the next run.
    pub(super) stop: CancellationToken,
    /// Stop, say goodbye and remove the interface.
    pub(super) leave: CancellationToken,
    pub(super) teardown: bool,
    /// What the service manager was told last.
    pub(super) said: String,
    pub(super) measured: Measured,
    /// Where probes tell how they ended.
    pub(super) probes: mpsc::Sender<(PublicKey, Probe)>,
}

impl Actor {
    /// The status that watchers follow, with its present value.
    pub(super) fn watch_status(&self) -> watch::Sender<MeshStatus> {
        watch::Sender::new(self.status())
    }

    pub(super) async fn run(
        mut self,
        mut inputs: Inputs,
        statuses: watch::Sender<MeshStatus>,
    ) -> Result<()> {
        let mut ticks = steady(TICK);
        let mut device_polls = steady(DEVICE_POLL);
        let mut rescans = steady(RESCAN);
        let mut keeps = steady(KEEP_PEERS_EVERY);
        let mut dirty = false;
        // What host and device have already is taken in before anything is decided, and the LAN is
        // joined before the first announce is due.
        if let Some(multicast) = &mut self.sockets.multicast {
            multicast.rescan();
        }
        self.assert_ipv6(&mut dirty).await;
        self.look_around(&mut dirty).await;
        self.poll_device(&mut dirty).await;
        knit_runtime::notify::ready();
        loop {
            tokio::select! {
                Some(datagram) = inputs.datagrams.recv() => {
                    let Datagram { path, from, bytes } = datagram;
                    self.on(Event::Datagram { path, from, bytes: &bytes }, &mut dirty).await;
                }
                Some(query) = inputs.queries.recv() => {
                    if query.tells_of_device() {
                        self.poll_device(&mut dirty).await;
                    }
                    self.answer(query, &mut dirty).await;
                }
                Some(own) = inputs.certificates.recv() => {
                    self.on(Event::Certificate(Box::new(own)), &mut dirty).await;
                }
                Some(addresses) = inputs.seeds.recv() => {
                    self.on(Event::Seeds(addresses), &mut dirty).await;
                }
                Some((key, outcome)) = inputs.probed.recv() => {
                    if let Probe::Pong { micros } = outcome {
                        self.measured.round_trip(key, micros);
                    }
                    self.on(Event::Probed { key, outcome }, &mut dirty).await;
                }
                Some(answers) = inputs.stun.recv() => {
                    self.on(Event::Stun(answers), &mut dirty).await;
                }
                _ = rescans.tick() => {
                    self.rescan(&mut dirty).await;
                    self.look_around(&mut dirty).await;
                    self.assert_interface().await?;
                    self.assert_ipv6(&mut dirty).await;
                    self.assert_forwarding().await;
                }
                _ = device_polls.tick() => {
                    self.poll_device(&mut dirty).await;
                    self.publish(&statuses);
                }
                _ = ticks.tick() => {
                    self.on(Event::Tick, &mut dirty).await;
                    if let Err(error) = self.device.tend().await {
                        warn_chain(&error);
                    }
                    self.keep_peers_if(&mut dirty);
                    self.publish(&statuses);
                }
                _ = keeps.tick() => dirty = true,
                () = self.stop.cancelled() => break,
                () = self.leave.cancelled() => break,
            }
        }
        self.finish().await
    }

    async fn finish(mut self) -> Result<()> {
        knit_runtime::notify::stopping();
        let leaving = self.teardown || self.leave.is_cancelled();
        let mut dirty = true;
        self.keep_peers_if(&mut dirty);
        if leaving {
            self.on(Event::Leave, &mut dirty).await;
            // The goodbyes are in the kernel's hands; those by tunnel need the device a moment.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.device.stop().await;
        if leaving {
            self.links.delete(&self.interface).await?;
            if let Some(forwarding) = &self.forwarding {
                forwarding.remove().await;
            }
            tracing::info!(interface = self.interface, "left the mesh; the interface is removed");
        } else {
            tracing::info!(
                interface = self.interface,
                "stopped; the interface stays for the next start"
            );
        }
        Ok(())
    }

    async fn on(&mut self, event: Event<'_>, dirty: &mut bool) {
        for effect in self.mesh.handle(event, self.clock.now()) {
            self.perform(effect, dirty).await;
        }
    }

    async fn perform(&mut self, effect: Effect, dirty: &mut bool) {
        match effect {
            Effect::Announce(plaintext) => {
                for key in self.mesh.sealing_keys(None) {
                    if let Some(multicast) = &self.sockets.multicast {
                        multicast.send(|| seal(&key, Kind::Announce, &plaintext));
                    }
                }
            }
            Effect::Send { to, kind, plaintext } => {
                for key in self.mesh.sealing_keys(Some(to)) {
                    self.sockets.exchange.send(to, &seal(&key, kind, &plaintext));
                }
            }
            Effect::SetPeer(peer) => self.set_peer(&peer).await,
            Effect::RemovePeer(key) => {
                // The next look at the device finds what is still there.
                if let Err(error) = self.device.remove_peer(&key).await {
                    warn_chain(&error);
                }
            }
            Effect::Routes(routes) => self.set_routes(&routes).await,
            Effect::Probe { key, ip } => self.probe(key, ip),
            Effect::MoveAddress(ip) => self.move_address(ip).await,
            Effect::PeersChanged => *dirty = true,
            Effect::SecretRotated => {
                if let Err(error) = rotation::end(&self.state) {
                    tracing::error!("{error:#}");
                }
            }
            Effect::RevocationsChanged => self.state.keep_revocations(self.mesh.revocations()),
            Effect::Report(report) if report.is_warning() => tracing::warn!("{report}"),
            Effect::Report(report) => tracing::info!("{report}"),
        }
    }

    /// Configures the peer and sends it one packet, or the first handshake may take 15 s.
    async fn set_peer(&mut self, peer: &PeerConfig) {
        match self.device.set_peer(peer).await {
            Ok(()) => poke(peer.mesh_ip).await,
            Err(error) => warn_chain(&error),
        }
    }

    async fn move_address(&mut self, ip: Ipv4Addr) {
        self.identity.mesh_ip = Some(ip);
        if let Err(error) = self.state.keep_identity(&self.identity) {
            tracing::error!("{error:#}");
        }
        let prefix_len = self.mesh.settings().subnet.net().prefix_len();
        if let Ok(net) = Ipv4Net::new(ip, prefix_len)
            && let Err(error) = self.links.set_address(&self.interface, net).await
        {
            warn_chain(&error);
        }
        self.address.send_replace(Some(ip.into()));
    }

    async fn poll_device(&mut self, dirty: &mut bool) {
        let start = Instant::now();
        match self.device.peers().await {
            Ok(peers) => self.on(Event::Device(&peers), dirty).await,
            Err(error) => warn_chain(&error),
        }
        self.measured.reconciled(start.elapsed());
    }

    async fn set_routes(&self, routes: &[Ipv4Net]) {
        if let Err(error) = self.links.set_routes(&self.interface, routes).await {
            warn_chain(&error);
        }
    }

    /// Finds out what the host reaches without the mesh, for no route of a peer may take that, and
    /// puts back what somebody removed.
    async fn look_around(&mut self, dirty: &mut bool) {
        if self.mesh.settings().accept_routes.is_empty() {
            return;
        }
        match self.links.networks_beside(&self.interface).await {
            Ok(networks) => {
                self.on(Event::LocalNetworks(networks), dirty).await;
                self.set_routes(&self.mesh.accepted_routes()).await;
            }
            Err(error) => warn_chain(&error),
        }
    }

    async fn rescan(&mut self, dirty: &mut bool) {
        let changed = self.sockets.multicast.as_mut().is_some_and(Multicast::rescan);
        if changed {
            self.on(Event::NetworkChanged, dirty).await;
        }
    }

    /// Puts the address back if somebody took it. Without its interface a daemon is of no use: it
    /// ends, and its supervisor starts one that makes it anew.
    async fn assert_interface(&self) -> Result<()> {
        let prefix_len = self.mesh.settings().subnet.net().prefix_len();
        let address = Ipv4Net::new(self.mesh.mesh_ip(), prefix_len)?;
        if self.links.find(&self.interface).await?.is_none() {
            anyhow::bail!("interface {} was removed: start again to make it anew", self.interface);
        }
        if let Err(error) = self.links.set_address(&self.interface, address).await {
            warn_chain(&error);
        }
        Ok(())
    }

    async fn assert_forwarding(&mut self) {
        if let Some(forwarding) = &mut self.forwarding
            && let Err(error) = forwarding.assert().await
        {
            tracing::warn!("{error:#}");
        }
    }

    /// Puts the IPv6 address on the interface where the host lets it, now or later.
    async fn assert_ipv6(&mut self, dirty: &mut bool) {
        let settings = self.mesh.settings();
        let (wanted, prefix) = (settings.ipv6, settings.keys.v6_net());
        let set = self.links.set_ipv6(&self.interface, wanted, prefix).await;
        let present = wanted.filter(|_| set.is_ok());
        if let Err(error) = &set
            && !self.ipv6_refused
        {
            tracing::info!("the mesh is IPv4 only: this host gives the interface no IPv6 address");
            tracing::debug!(?error, "no mesh IPv6 address");
        }
        self.ipv6_refused = set.is_err();
        self.on(Event::Ipv6(present.is_some()), dirty).await;
        self.address_v6.send_if_modified(|last| {
            let changed = *last != present.map(IpAddr::V6);
            *last = present.map(IpAddr::V6);
            changed
        });
    }

    fn keep_peers_if(&self, dirty: &mut bool) {
        if std::mem::take(dirty) {
            self.state.keep_peers(&self.mesh.cached_peers(), self.clock.now().unix);
        }
    }

    /// Asks in the background; how many may run at once is the mesh's to bound.
    fn probe(&self, key: PublicKey, ip: Ipv4Addr) {
        let port = self.mesh.settings().keys.probe_port();
        let probes = self.probes.clone();
        tokio::spawn(async move {
            let outcome = probe::ask(ip, port).await;
            // The actor has ended when nobody listens.
            let _ = probes.send((key, outcome)).await;
        });
    }

    async fn answer(&mut self, query: Query, dirty: &mut bool) {
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

    fn status(&self) -> MeshStatus {
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
    fn publish(&mut self, statuses: &watch::Sender<MeshStatus>) {
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

fn steady(every: Duration) -> tokio::time::Interval {
    let mut interval = interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn seal(key: &[u8; 32], kind: Kind, plaintext: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE_LEN];
    if let Err(error) = getrandom::fill(&mut nonce) {
        // A nonce must not repeat: better silent than sealed badly.
        tracing::error!(%error, "the system gave no random bytes");
        return Vec::new();
    }
    envelope::seal(key, nonce, kind, plaintext)
}

async fn poke(mesh_ip: Ipv4Addr) {
    let sent = async {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.send_to(&[0], (mesh_ip, POKE_PORT)).await
    };
    if let Err(error) = sent.await {
        tracing::debug!(%error, %mesh_ip, "a new peer could not be poked");
    }
}

fn warn_chain(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    tracing::warn!("{text}");
}

#[cfg(test)]
mod tests;
