//! WireGuard in this process, for kernels that have none: gotatun on a persistent TUN device.
//!
//! The TUN device and its address stay when the process ends, so sockets bound to the mesh
//! address live through a restart; only packets of the gap are lost.

mod tun;
mod udp;

use std::collections::BTreeMap;
use std::time::Instant;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use gotatun::device::{Device, DeviceBuilder, Peer};
use gotatun::noise::TimerParams;
use gotatun::x25519;
use ipnet::IpNet;
use meshctl_core::key::PublicKey;
use meshctl_core::mesh::{DevicePeer, PeerConfig};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use super::{EAGER_MAX, EAGER_RETRY, KEEPALIVE_SECS, Setup, WgError, WireGuard, canonical};
use tun::Tun;

/// How packets come in and go out.
type Transports = (udp::Factory, tun::Sender, tun::Receiver);

pub(super) struct Userspace {
    device: Device<Transports>,
    interface: String,
    /// Who is shaken hands with eagerly, since when.
    eager: BTreeMap<PublicKey, Instant>,
}

impl Userspace {
    pub(super) async fn open(setup: &Setup) -> Result<Self, WgError> {
        let tun = Tun::open(&setup.interface, setup.offload)
            .map_err(|source| WgError::Tun { name: setup.interface.clone(), source })?;
        tracing::debug!(
            interface = setup.interface,
            bulk = tun.is_bulk(),
            "the TUN device is open"
        );
        let udp = udp::Factory { bulk: tun.is_bulk() };
        let (sender, receiver) = tun.split();
        let failed = |error: gotatun::device::Error| WgError::Configure {
            name: setup.interface.clone(),
            port: setup.listen_port,
            source: error.into(),
        };
        let builder = DeviceBuilder::new().with_udp(udp).with_ip_pair(sender, receiver);
        let device = builder.with_listen_port(setup.listen_port).build().await.map_err(failed)?;
        // After `build`: a builder with a key and no peers never opens its socket.
        let key = x25519::StaticSecret::from(*setup.private_key.expose());
        device.set_private_key(key).await.map_err(failed)?;
        Ok(Self { device, interface: setup.interface.clone(), eager: BTreeMap::new() })
    }

    fn failed(&self, error: gotatun::device::Error) -> WgError {
        WgError::Peers { name: self.interface.clone(), source: error.into() }
    }

    /// Sets how soon an unanswered handshake with a peer is repeated.
    async fn retry_after(&mut self, key: &PublicKey, timers: TimerParams) -> Result<(), WgError> {
        let key = x25519::PublicKey::from(key.to_bytes());
        let changing =
            self.device.modify_peer(&key, |peer| peer.dangerously_set_timer_params(Some(timers)));
        changing.await.map(|_| ()).map_err(|error| self.failed(error))
    }

    /// Gives WireGuard's own pace back to who answered, and to who does not.
    async fn calm(&mut self, found: &[DevicePeer]) -> Result<(), WgError> {
        let answered = |key| found.iter().any(|peer| peer.key == key && peer.is_live());
        let calmed: Vec<PublicKey> = self
            .eager
            .iter()
            .filter(|(key, since)| since.elapsed() > EAGER_MAX || answered(**key))
            .map(|(key, _)| *key)
            .collect();
        for key in calmed {
            self.retry_after(&key, TimerParams::default()).await?;
            self.eager.remove(&key);
        }
        Ok(())
    }
}

fn eager_timers() -> TimerParams {
    TimerParams { rekey_timeout: EAGER_RETRY..=EAGER_RETRY, ..TimerParams::default() }
}

#[async_trait]
impl WireGuard for Userspace {
    fn engine(&self) -> &'static str {
        "userspace"
    }

    async fn set_peer(&mut self, config: &PeerConfig) -> Result<(), WgError> {
        let mut peer = Peer::new(x25519::PublicKey::from(config.key.to_bytes()))
            .with_preshared_key(*config.psk.expose())
            .with_allowed_ips(
                config.allowed_ips.iter().filter_map(|net| net.to_string().parse().ok()),
            );
        peer.endpoint = config.endpoint;
        peer.keepalive = Some(KEEPALIVE_SECS);
        // The library's own "Peer added" says less than our report of the peer.
        self.device
            .add_or_update_peer(peer)
            .with_subscriber(NoSubscriber::new())
            .await
            .map_err(|error| self.failed(error))?;
        self.eager.insert(config.key, Instant::now());
        self.retry_after(&config.key, eager_timers()).await?;
        // The first message goes out at the first poll. A packet through a TUN device that has just
        // come up may be lost before it begins one; who has a session needs none.
        let key = x25519::PublicKey::from(config.key.to_bytes());
        let _ = self.device.force_handshake(&key).now_or_never();
        Ok(())
    }

    async fn remove_peer(&mut self, key: &PublicKey) -> Result<(), WgError> {
        self.eager.remove(key);
        let key = x25519::PublicKey::from(key.to_bytes());
        let removing = self.device.remove_peer(&key).with_subscriber(NoSubscriber::new());
        removing.await.map(|_| ()).map_err(|error| self.failed(error))
    }

    async fn peers(&mut self) -> Result<Vec<DevicePeer>, WgError> {
        let peers = self.device.peers().await;
        let peers: Vec<DevicePeer> = peers
            .into_iter()
            .map(|found| DevicePeer {
                key: PublicKey::from_bytes(found.peer.public_key.to_bytes()),
                endpoint: found.peer.endpoint.map(canonical),
                allowed_ips: found
                    .peer
                    .allowed_ips
                    .iter()
                    .filter_map(|net| IpNet::new(net.ip(), net.prefix()).ok())
                    .collect(),
                handshake_age_ms: found
                    .stats
                    .last_handshake
                    .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
                rx_bytes: u64::try_from(found.stats.rx_bytes).unwrap_or(u64::MAX),
                tx_bytes: u64::try_from(found.stats.tx_bytes).unwrap_or(u64::MAX),
            })
            .collect();
        self.calm(&peers).await?;
        Ok(peers)
    }

    async fn stop(self: Box<Self>) {
        self.device.stop().await;
    }
}
