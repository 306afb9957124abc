//! Has the firewall publish what should be published.

use std::collections::BTreeSet;

use knit_agent_core::nft::Rules;
use knit_agent_core::publish::PortMap;

use super::Reconciler;
use crate::executor::sentence;

impl Reconciler {
    /// Makes the rules so, or finds that they are; false when that failed.
    pub(super) async fn publish(&mut self, ports: PortMap) -> bool {
        let rules = self.rules(ports);
        match self.firewall.apply(&rules).await {
            Ok(()) => {
                if self.published != rules.ports {
                    tracing::info!(ports = rules.ports.len(), "published ports");
                }
                self.published = rules.ports;
                self.troubles.firewall = None;
                true
            }
            Err(error) => {
                self.troubles.firewall =
                    Some(format!("ports cannot be published: {}", sentence(&error)));
                false
            }
        }
    }

    /// Before Docker was read nobody knows which ports lead where: rules that are there stay, but
    /// a host without any gets the guard of its mesh address.
    pub(super) async fn guard_at_least(&mut self) {
        if let Ok(false) = self.firewall.stands().await {
            self.publish(PortMap::new()).await;
        }
    }

    fn rules(&self, ports: PortMap) -> Rules {
        let place = self.shared.place();
        let bridges: BTreeSet<String> =
            self.networks.iter().filter_map(|network| network.bridge.clone()).collect();
        let mut inside: BTreeSet<String> = bridges.clone();
        inside.insert("lo".to_owned());
        inside.extend(place.iter().map(|(_, interface)| interface.clone()));
        Rules {
            mesh_ip: place.map(|(ip, _)| ip),
            inside,
            bridges,
            subnet: self.shared.registration.borrow().as_ref().map(|known| known.subnet),
            ports,
        }
    }
}
