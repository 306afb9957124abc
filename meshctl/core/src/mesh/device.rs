//! The device as it is, and as it should be.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::Mesh;
use super::effect::{Effect, PeerConfig, Report};
use super::event::{DevicePeer, Now};

impl Mesh {
    /// Takes the device's own view in: handshakes are life signs, roamed endpoints are true.
    pub(super) fn device(&mut self, found: &[DevicePeer], now: Now, effects: &mut Vec<Effect>) {
        let present: BTreeMap<_, _> = found.iter().map(|peer| (peer.key, peer)).collect();
        self.configured.retain(|key, _| present.contains_key(key));
        for device_peer in found.iter().filter(|peer| peer.key != self.settings.public_key) {
            // A tunnel is no certificate: who is kept out is on the device for a moment at most.
            let is_known = self.peers.get(&device_peer.key).is_some();
            let may_join = is_known || !self.membership.is_required();
            if may_join && self.peers.device_saw(device_peer, now) {
                effects.push(Effect::PeersChanged);
            }
            // What really stands on the device is what the next reconcile compares with.
            let endpoint = match self.configured.get(&device_peer.key) {
                Some(ours) if ours.endpoint.is_some() && !device_peer.is_live() => ours.endpoint,
                _ => device_peer.endpoint,
            };
            let subnet = self.settings.subnet;
            let mut allowed_ips = device_peer.allowed_ips.clone();
            allowed_ips.sort();
            let key = device_peer.key;
            // Neither a relayed peer nor its introducer shows its own address alone.
            let ours = self.configured.get(&key);
            let as_ours = ours.filter(|ours| ours.allowed_ips == allowed_ips);
            let mesh_ip = as_ours.map(|ours| ours.mesh_ip).or_else(|| device_peer.mesh_ip(subnet));
            let mesh_ip = mesh_ip.unwrap_or(Ipv4Addr::UNSPECIFIED);
            let psk = ours.map_or_else(|| self.psk_left(), |ours| ours.psk.clone());
            self.configured.insert(key, PeerConfig { key, endpoint, mesh_ip, allowed_ips, psk });
        }
    }

    pub(super) fn reconcile(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let own = [Some(IpAddr::V4(self.ip)), self.settings.ipv6.map(IpAddr::V6)];
        let mut desired = self.peers.desired(own, |key| self.psk_with(key), &self.configured, now);
        let claims = self.peers.claimed_routes(&desired);
        for refused in self.routes.update(&claims, self.settings.subnet.net()) {
            let (by, route, why) = (refused.by, refused.route, refused.why);
            effects.push(Effect::Report(Report::RouteRefused { by, route, why }));
        }
        for (key, config) in &mut desired {
            config.allowed_ips.extend(self.routes.of(key).into_iter().map(IpNet::V4));
            config.allowed_ips.sort();
        }
        self.route_relayed(&mut desired);
        // Removals first: an address moves from one peer to another without a moment of both.
        let gone = self.configured.keys().filter(|key| !desired.contains_key(*key));
        effects.extend(gone.map(|key| Effect::RemovePeer(*key)));
        let changed =
            desired.iter().filter(|(key, config)| config.differs_from(self.configured.get(*key)));
        let mut changed: Vec<&PeerConfig> = changed.map(|(_, config)| config).collect();
        changed.sort_by_key(|config| !config.gives_up_of(self.configured.get(&config.key)));
        effects.extend(changed.into_iter().map(|config| Effect::SetPeer(config.clone())));
        self.configured = desired;
        let routed = self.routes.all();
        if self.routes.is_settled() && self.routed.as_ref() != Some(&routed) {
            effects.push(Effect::Routes(routed.clone()));
            self.routed = Some(routed);
        }
    }
}
