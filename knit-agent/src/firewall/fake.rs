//! A firewall in memory that fails on command and remembers all it was told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use knit_agent_core::nft::Rules;
use knit_agent_core::publish::PortMap;

use super::{Firewall, FirewallError};

#[derive(Debug, Default)]
struct State {
    rules: Option<Rules>,
    history: Vec<Rules>,
    failing: bool,
}

#[derive(Debug, Clone, Default)]
pub struct FakeFirewall {
    state: Arc<Mutex<State>>,
}

impl FakeFirewall {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn fail(&self, fail: bool) {
        self.lock().failing = fail;
    }

    pub fn rules(&self) -> Option<Rules> {
        self.lock().rules.clone()
    }

    /// Each set of rules that differed from the one before it.
    pub fn history(&self) -> Vec<Rules> {
        self.lock().history.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Firewall for FakeFirewall {
    async fn apply(&self, rules: &Rules) -> Result<(), FirewallError> {
        let mut state = self.lock();
        if state.failing {
            return Err(FirewallError::Refused {
                program: "nft",
                words: "failed on command".into(),
            });
        }
        if state.rules.as_ref() != Some(rules) {
            state.history.push(rules.clone());
            state.rules = Some(rules.clone());
        }
        Ok(())
    }

    async fn change(&self, rules: &Rules) -> Result<(), FirewallError> {
        self.apply(rules).await
    }

    async fn published(&self) -> Result<Option<PortMap>, FirewallError> {
        Ok(self.lock().rules.as_ref().map(|rules| rules.ports.clone()))
    }

    async fn clear(&self) -> Result<(), FirewallError> {
        self.lock().rules = None;
        Ok(())
    }
}
