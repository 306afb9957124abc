//! What the other loops are told.

use std::collections::BTreeMap;

use knit_rpc::id::InstanceId;
use knit_rpc::message::InstanceStatus;

use super::{Reconciler, Troubles};
use crate::shared::{EngineFacts, Inventory};

impl Reconciler {
    /// By instance; one whose last lines are being read stands as it stood before, so that they
    /// come with the news.
    pub(super) fn with_last_words(
        &self,
        instances: Vec<InstanceStatus>,
    ) -> BTreeMap<InstanceId, InstanceStatus> {
        let before = self.shared.inventory.borrow();
        let before = before.as_ref().map(|before| &before.instances);
        let settled = |one: InstanceStatus| {
            let awaited = self.awaited_words.contains(&one.id);
            let former = before.and_then(|before| before.get(&one.id)).filter(|_| awaited);
            former.cloned().unwrap_or(one)
        };
        instances.into_iter().map(settled).map(|one| (one.id.clone(), one)).collect()
    }

    /// Lets the other loops know.
    pub(super) fn tell(&mut self, inventory: Option<Inventory>) {
        if let Some(inventory) = inventory {
            self.shared.inventory.send_if_modified(|known| {
                let changed = known.as_ref() != Some(&inventory);
                if changed {
                    *known = Some(inventory);
                }
                changed
            });
        }
        let Troubles { engine, network, firewall } = &self.troubles;
        let trouble = engine.as_ref().or(network.as_ref()).or(firewall.as_ref()).cloned();
        let info = self.info.clone().filter(|_| engine.is_none());
        self.shared.engine.send_if_modified(|known| {
            let facts = EngineFacts { info, trouble };
            let changed = *known != facts;
            if changed && facts.trouble != known.trouble {
                let text = facts.trouble.as_deref();
                tracing::warn!("{}", text.unwrap_or("this node can run containers again"));
            }
            *known = facts;
            changed
        });
    }
}
