//! A device without packets, which can fail on command.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use meshctl_core::key::PublicKey;
use meshctl_core::mesh::{DevicePeer, PeerConfig};

use super::{WgError, WireGuard};

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    peers: BTreeMap<PublicKey, PeerConfig>,
    failing: bool,
}

impl Fake {
    pub(crate) fn fail(&self, failing: bool) {
        self.0.lock().unwrap().failing = failing;
    }

    pub(crate) fn keys(&self) -> Vec<PublicKey> {
        self.0.lock().unwrap().peers.keys().copied().collect()
    }
}

#[async_trait]
impl WireGuard for Fake {
    fn engine(&self) -> &'static str {
        "fake"
    }

    async fn set_peer(&mut self, peer: &PeerConfig) -> Result<(), WgError> {
        let mut state = self.0.lock().unwrap();
        if state.failing {
            return Err(WgError::Peers { name: "fake".into(), source: "told to fail".into() });
        }
        state.peers.insert(peer.key, peer.clone());
        Ok(())
    }

    async fn remove_peer(&mut self, key: &PublicKey) -> Result<(), WgError> {
        self.0.lock().unwrap().peers.remove(key);
        Ok(())
    }

    async fn peers(&mut self) -> Result<Vec<DevicePeer>, WgError> {
        let state = self.0.lock().unwrap();
        let peer = |peer: &PeerConfig| DevicePeer {
            key: peer.key,
            endpoint: peer.endpoint,
            allowed_ips: peer.allowed_ips.clone(),
            handshake_age_ms: None,
            rx_bytes: 0,
            tx_bytes: 0,
        };
        Ok(state.peers.values().map(peer).collect())
    }

    async fn stop(self: Box<Self>) {}
}
