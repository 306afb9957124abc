//! WireGuard in this process, for kernels that have none: gotatun on a persistent TUN device.
//!
//! The TUN device and its address stay when the process ends, so sockets bound to the mesh
//! address live through a restart; only packets of the gap are lost.

use async_trait::async_trait;
use gotatun::device::{DefaultDeviceTransports, Device, DeviceBuilder, Peer};
use gotatun::tun::tun;
use gotatun::tun::tun_async_device::TunDevice;
use gotatun::x25519;
use ipnet::IpNet;
use meshctl_core::key::PublicKey;
use meshctl_core::mesh::{DevicePeer, PeerConfig};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;
use zeroize::Zeroizing;

use super::{KEEPALIVE_SECS, Setup, WgError, WireGuard, canonical};

pub(super) struct Userspace {
    device: Device<DefaultDeviceTransports>,
    interface: String,
    psk: Zeroizing<[u8; 32]>,
}

impl Userspace {
    pub(super) async fn open(setup: &Setup) -> Result<Self, WgError> {
        let tun = persistent_tun(&setup.interface)
            .map_err(|source| WgError::Tun { name: setup.interface.clone(), source })?;
        let failed = |error: gotatun::device::Error| WgError::Configure {
            name: setup.interface.clone(),
            port: setup.listen_port,
            source: error.into(),
        };
        let builder = DeviceBuilder::new().with_default_udp().with_ip(tun);
        let device = builder.with_listen_port(setup.listen_port).build().await.map_err(failed)?;
        // After `build`: a builder with a key and no peers never opens its socket.
        let key = x25519::StaticSecret::from(*setup.private_key.expose());
        device.set_private_key(key).await.map_err(failed)?;
        Ok(Self { device, interface: setup.interface.clone(), psk: setup.psk.clone() })
    }
}

#[async_trait]
impl WireGuard for Userspace {
    fn engine(&self) -> &'static str {
        "userspace"
    }

    async fn set_peer(&mut self, config: &PeerConfig) -> Result<(), WgError> {
        let mut peer = Peer::new(x25519::PublicKey::from(config.key.to_bytes()))
            .with_preshared_key(*self.psk)
            .with_allowed_ips([std::net::IpAddr::V4(config.mesh_ip).into()]);
        peer.endpoint = config.endpoint;
        peer.keepalive = Some(KEEPALIVE_SECS);
        // The library's own "Peer added" says less than our report of the peer.
        self.device
            .add_or_update_peer(peer)
            .with_subscriber(NoSubscriber::new())
            .await
            .map_err(|error| WgError::Peers { name: self.interface.clone(), source: error.into() })
    }

    async fn remove_peer(&mut self, key: &PublicKey) -> Result<(), WgError> {
        let key = x25519::PublicKey::from(key.to_bytes());
        let removing = self.device.remove_peer(&key).with_subscriber(NoSubscriber::new());
        removing
            .await
            .map(|_| ())
            .map_err(|error| WgError::Peers { name: self.interface.clone(), source: error.into() })
    }

    async fn peers(&mut self) -> Result<Vec<DevicePeer>, WgError> {
        let peers = self.device.peers().await;
        Ok(peers
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
            })
            .collect())
    }

    async fn stop(self: Box<Self>) {
        self.device.stop().await;
    }
}

/// Makes the device, or attaches to the one that an earlier run left.
fn persistent_tun(name: &str) -> Result<TunDevice, Box<dyn std::error::Error + Send + Sync>> {
    let mut configuration = tun::Configuration::default();
    configuration.tun_name(name);
    let mut device = tun::create_as_async(&configuration)?;
    device.persist()?;
    Ok(TunDevice::from_tun_device(device)?)
}
