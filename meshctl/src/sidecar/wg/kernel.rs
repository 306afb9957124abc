//! The kernel's WireGuard: the tunnel runs without us, we only tell it of peers.
//!
//! The kernel sends one peer no second handshake within 5 s, but knows nothing of a peer that it is
//! told of anew: one that never had a session is taken off and put back until it answers.

mod ages;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use defguard_wireguard_rs::key::Key;
use defguard_wireguard_rs::net::IpAddrMask;
use defguard_wireguard_rs::peer::Peer;
use defguard_wireguard_rs::{
    InterfaceConfiguration, Kernel as KernelApi, WGApi, WireguardInterfaceApi,
};
use ipnet::IpNet;
use knit_rpc::Timestamp;
use meshctl_core::key::{PrivateKey, PublicKey};
use meshctl_core::mesh::{DevicePeer, PeerConfig};
use tracing::subscriber::NoSubscriber;
use zeroize::Zeroizing;

use ages::Ages;

use super::{EAGER_MAX, EAGER_RETRY, KEEPALIVE_SECS, MTU, Setup, WgError, WireGuard, canonical};

pub(super) struct Kernel {
    api: WGApi<KernelApi>,
    interface: String,
    unanswered: BTreeMap<PublicKey, Unanswered>,
    ages: Ages,
}

/// A peer that has been configured and may not have shaken hands yet.
struct Unanswered {
    peer: Peer,
    since: Instant,
    tried_at: Instant,
}

impl Kernel {
    /// Configures the interface unless it stands as it should: configuring drops all sessions.
    pub(super) fn open(setup: &Setup) -> Result<Self, WgError> {
        let failed =
            |error: defguard_wireguard_rs::error::WireguardInterfaceError| WgError::Configure {
                name: setup.interface.clone(),
                port: setup.listen_port,
                source: error.into(),
            };
        let api = quiet(|| WGApi::<KernelApi>::new(setup.interface.clone())).map_err(failed)?;
        let found = quiet(|| api.read_interface_data()).map_err(failed)?;
        let found_key = found.private_key.map(|key| Zeroizing::new(key.as_array()));
        let found_key = found_key.filter(|key| **key != [0; 32]);
        let ours = setup.private_key.public();
        match found_key.map(|key| PrivateKey::from_random(*key).public()) {
            Some(key) if key != ours => {
                let why = "it has another private key";
                return Err(WgError::NotOurs { name: setup.interface.clone(), why });
            }
            Some(_) if found.listen_port == setup.listen_port => {
                tracing::info!(interface = setup.interface, "took the interface over");
            }
            Some(_) | None => {
                let configuration = InterfaceConfiguration {
                    name: setup.interface.clone(),
                    prvkey: setup.private_key.expose_base64().to_string(),
                    addresses: Vec::new(),
                    port: setup.listen_port,
                    peers: Vec::new(),
                    mtu: Some(MTU),
                    fwmark: None,
                };
                quiet(|| api.configure_interface(&configuration)).map_err(failed)?;
            }
        }
        Ok(Self {
            api,
            interface: setup.interface.clone(),
            unanswered: BTreeMap::new(),
            ages: Ages::default(),
        })
    }

    fn failed(
        &self,
    ) -> impl Fn(defguard_wireguard_rs::error::WireguardInterfaceError) -> WgError + use<> {
        let name = self.interface.clone();
        move |error| WgError::Peers { name: name.clone(), source: error.into() }
    }
}

// Each call is one netlink exchange of well under a millisecond: not worth another thread.
#[async_trait]
impl WireGuard for Kernel {
    fn engine(&self) -> &'static str {
        "kernel"
    }

    async fn set_peer(&mut self, config: &PeerConfig) -> Result<(), WgError> {
        let mut peer = Peer::new(Key::new(config.key.to_bytes()));
        peer.endpoint = config.endpoint;
        peer.preshared_key = Some(Key::new(*config.psk.expose()));
        peer.persistent_keepalive_interval = Some(KEEPALIVE_SECS);
        let allowed = config.allowed_ips.iter();
        let allowed = allowed.map(|net| IpAddrMask::new(net.addr(), net.prefix_len()));
        peer.set_allowed_ips(allowed.collect());
        quiet(|| self.api.configure_peer(&peer)).map_err(self.failed())?;
        if config.endpoint.is_some() {
            let now = Instant::now();
            self.unanswered.insert(config.key, Unanswered { peer, since: now, tried_at: now });
        }
        Ok(())
    }

    async fn remove_peer(&mut self, key: &PublicKey) -> Result<(), WgError> {
        self.unanswered.remove(key);
        quiet(|| self.api.remove_peer(&Key::new(key.to_bytes()))).map_err(self.failed())
    }

    async fn peers(&mut self) -> Result<Vec<DevicePeer>, WgError> {
        let host = quiet(|| self.api.read_interface_data()).map_err(self.failed())?;
        let told: Vec<(PublicKey, Timestamp)> = host
            .peers
            .values()
            .filter_map(|peer| Some((key_of(peer), last_handshake(peer)?)))
            .collect();
        let ages = self.ages.look(&told, knit_runtime::clock::now(), Instant::now());
        let age_of = |peer: &Peer| ages.get(&key_of(peer)).copied();
        Ok(host.peers.values().map(|peer| device_peer(peer, age_of(peer))).collect())
    }

    /// A peer whose handshake got no answer is taken off and put back: its keepalive begins a new
    /// one at once. Who ever had a session is left alone.
    async fn tend(&mut self) -> Result<(), WgError> {
        self.unanswered.retain(|_, one| one.since.elapsed() < EAGER_MAX);
        if !self.unanswered.values().any(|one| one.tried_at.elapsed() >= EAGER_RETRY) {
            return Ok(());
        }
        let never_shaken: Vec<PublicKey> = self
            .peers()
            .await?
            .into_iter()
            .filter(|peer| peer.handshake_age_ms.is_none())
            .map(|peer| peer.key)
            .collect();
        self.unanswered.retain(|key, _| never_shaken.contains(key));
        let failed = self.failed();
        for one in self.unanswered.values_mut() {
            if one.tried_at.elapsed() >= EAGER_RETRY {
                one.tried_at = Instant::now();
                quiet(|| self.api.remove_peer(&one.peer.public_key)).map_err(&failed)?;
                quiet(|| self.api.configure_peer(&one.peer)).map_err(&failed)?;
            }
        }
        Ok(())
    }

    async fn stop(self: Box<Self>) {}
}

fn key_of(peer: &Peer) -> PublicKey {
    PublicKey::from_bytes(peer.public_key.as_array())
}

/// By the wall clock of then; `None` when there was none yet.
fn last_handshake(peer: &Peer) -> Option<Timestamp> {
    let at = peer.last_handshake?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let millis = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
    (!at.is_zero()).then(|| Timestamp::from_millis(millis))
}

fn device_peer(peer: &Peer, handshake_age: Option<Duration>) -> DevicePeer {
    DevicePeer {
        key: key_of(peer),
        endpoint: peer.endpoint.map(canonical),
        allowed_ips: peer
            .allowed_ips
            .iter()
            .filter_map(|net| IpNet::new(net.address, net.cidr).ok())
            .collect(),
        handshake_age_ms: handshake_age
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
    }
}

/// Runs a call of the library without its log lines: they hold private keys.
fn quiet<R>(call: impl FnOnce() -> R) -> R {
    tracing::subscriber::with_default(NoSubscriber::new(), call)
}
