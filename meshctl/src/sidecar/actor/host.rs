//! What the host has, and what of ours somebody took away from it.

use std::net::IpAddr;

use anyhow::Result;
use ipnet::Ipv4Net;
use meshctl_core::mesh::Event;

use super::super::net::multicast::Multicast;
use super::{Actor, warn_chain};

impl Actor {
    /// Finds out what the host reaches without the mesh, for no route of a peer may take that, and
    /// puts back what somebody removed.
    pub(super) async fn look_around(&mut self, dirty: &mut bool) {
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

    pub(super) async fn rescan(&mut self, dirty: &mut bool) {
        let changed = self.sockets.multicast.as_mut().is_some_and(Multicast::rescan);
        if changed {
            self.on(Event::NetworkChanged, dirty).await;
        }
    }

    /// Puts the address back if somebody took it. Without its interface a daemon is of no use: it
    /// ends, and its supervisor starts one that makes it anew.
    pub(super) async fn assert_interface(&self) -> Result<()> {
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

    pub(super) async fn assert_forwarding(&mut self) {
        if let Some(forwarding) = &mut self.forwarding
            && let Err(error) = forwarding.assert().await
        {
            tracing::warn!("{error:#}");
        }
    }

    /// Puts the IPv6 address on the interface where the host lets it, now or later.
    pub(super) async fn assert_ipv6(&mut self, dirty: &mut bool) {
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
}
