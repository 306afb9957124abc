//! Has the firewall publish what should be published.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use knit_agent_core::network::LABEL_NETWORK;
use knit_agent_core::nft::Rules;
use knit_agent_core::publish::PortMap;

use super::Reconciler;
use knit_runtime::error::sentence;

/// Rules that others may change are looked at this often: with each tick, not between.
const ASSERT_EVERY: Duration = Duration::from_millis(1_900);

impl Reconciler {
    /// Learns what is published already, once: who has a port when the agent starts keeps it.
    pub(super) async fn learn_published(&mut self) {
        if self.published.is_none() {
            match self.firewall.published().await {
                Ok(found) => self.published = Some(found.unwrap_or_default()),
                Err(error) => {
                    self.troubles.firewall =
                        Some(format!("published ports cannot be read: {}", sentence(&error)));
                }
            }
        }
    }

    /// Makes the rules so, or finds that they are; false when that failed.
    pub(super) async fn publish(&mut self, ports: PortMap) -> bool {
        let rules = self.rules(ports);
        let last = self.asserted.as_ref().filter(|(_, at)| at.elapsed() < ASSERT_EVERY);
        let applied = match last {
            Some((known, _)) if *known == rules => return true,
            Some(_) => self.firewall.change(&rules).await,
            None => self.firewall.apply(&rules).await,
        };
        match applied {
            Ok(()) => {
                if self.published.as_ref() != Some(&rules.ports) {
                    tracing::info!(ports = rules.ports.len(), "published ports");
                }
                // A change looks at nothing else: when to look next stays as it was.
                let at = last.map_or_else(Instant::now, |(_, at)| *at);
                self.published = Some(rules.ports.clone());
                self.asserted = Some((rules, at));
                self.troubles.firewall = None;
                true
            }
            Err(error) => {
                self.troubles.firewall =
                    Some(format!("ports cannot be published: {}", sentence(&error)));
                self.asserted = None;
                false
            }
        }
    }

    /// Before Docker was read nobody knows which ports lead where: rules that are there stay, but
    /// a host without any gets the guard of its mesh address.
    pub(super) async fn guard_at_least(&mut self) {
        if let Ok(None) = self.firewall.published().await {
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
        let named = self.networks.iter().filter(|one| one.labels.contains_key(LABEL_NETWORK));
        let mut subnets: BTreeSet<Ipv4Net> =
            named.flat_map(|network| network.subnets.iter().copied()).collect();
        subnets.extend(self.shared.registration.borrow().as_ref().map(|known| known.subnet));
        Rules { mesh_ip: place.map(|(ip, _)| ip), inside, bridges, subnets, ports }
    }
}
