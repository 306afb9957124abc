//! The one task that owns the mesh state and the device: events in, effects done.

mod answers;
mod host;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Result;
use ipnet::Ipv4Net;
use knit_rpc::jsonrpc::MeshStatus;
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
use super::net::Datagram;
use super::net::exchange::Exchange;
use super::net::multicast::Multicast;
use super::net::probe::Asker;
use super::rotation;
use super::rpc_server::Query;
use super::state::StateDir;
use super::wg::{Links, WireGuard};

const TICK: Duration = Duration::from_millis(100);
const DEVICE_POLL: Duration = Duration::from_secs(1);
const RESCAN: Duration = Duration::from_secs(2);
/// An interface that has just come up is announced on soon, not at the next look: the kernel may
/// take a second to say that it runs.
const FIRST_RESCANS: Duration = Duration::from_millis(200);
const FIRST_RESCANS_FOR: Duration = Duration::from_secs(3);
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
    pub(super) asker: Asker,
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
        let mut first_rescans = steady(FIRST_RESCANS);
        let begun = Instant::now();
        let mut keeps = steady(KEEP_PEERS_EVERY);
        let mut alive = knit_runtime::notify::Alive::new();
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
                _ = first_rescans.tick(), if begun.elapsed() < FIRST_RESCANS_FOR => {
                    self.rescan(&mut dirty).await;
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
                    alive.say();
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

    fn keep_peers_if(&self, dirty: &mut bool) {
        if std::mem::take(dirty) {
            self.state.keep_peers(&self.mesh.cached_peers(), self.clock.now().unix);
        }
    }

    /// Asks in the background; how many may run at once is the mesh's to bound.
    fn probe(&self, key: PublicKey, ip: Ipv4Addr) {
        let port = self.mesh.settings().keys.probe_port();
        let (probes, asker) = (self.probes.clone(), self.asker.clone());
        tokio::spawn(async move {
            let outcome = asker.ask(ip, port).await;
            // The actor has ended when nobody listens.
            let _ = probes.send((key, outcome)).await;
        });
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
