//! Cutting nodes off from NATS, and their farewell.

use std::time::Duration;

use knit_rpc::api::NodeRemoved;
use knit_rpc::id::NodeId;
use knit_rpc::message::Generation;
use knit_rpc::signed::{self, Context};
use knit_runtime::clock;
use knit_server_core::Snapshot;
use knit_server_core::assignment::{self, SentAssignment};
use knit_server_core::revocation::{self, FAREWELL_MAX};
use tokio::time::timeout;

use super::super::{App, AppError, CutOff, World};
use super::TOKEN_LIFE;
use super::register;
use crate::store;

/// How long NATS may take to be told, once somebody is to be cut off.
const TELL_MAX: Duration = Duration::from_secs(5);

impl App {
    /// Waits until NATS refuses a key; says why when it does not do so in time.
    pub(super) async fn until_cut_off(&self, nkey: &str) -> NodeRemoved {
        if nkey.is_empty() {
            let message = "this server has forgotten the node's key: the NATS token that it has holds \
                           for what is left of its day, for its own subjects";
            return NodeRemoved { cut_off: false, message: Some(message.to_owned()) };
        }
        let until = self.world().await.revocations.get(nkey).map_or(0, |one| one.until);
        let mut told = self.cut_off.subscribe();
        let refuses = |told: &CutOff| match told {
            CutOff::Told(keys) => keys.get(nkey).is_some_and(|refused| *refused >= until),
            CutOff::NotUp => true,
            CutOff::Failed(_) => false,
        };
        let waited = timeout(FAREWELL_MAX + TELL_MAX, told.wait_for(refuses)).await;
        drop(waited);
        let message = match &*told.borrow() {
            CutOff::Told(keys) if keys.get(nkey).is_some_and(|refused| *refused >= until) => None,
            CutOff::Told(_) => Some("NATS has not refused it yet: it is tried on".to_owned()),
            CutOff::NotUp => Some("NATS is not up: it refuses the node once it is".to_owned()),
            CutOff::Failed(why) => Some(format!(
                "NATS could not be told to refuse it, so that its token holds for what is left of \
                 its day; it is tried on: {why}"
            )),
        };
        NodeRemoved { cut_off: message.is_none(), message }
    }

    /// A removed node says that it holds its last assignment: nothing keeps it in any more.
    pub(super) fn note_farewell(&self, world: &mut World, node: &NodeId) {
        for revocation in world.revocations.values_mut() {
            if revocation.node == *node && !revocation.taken {
                revocation.taken = true;
                self.wake_revoker.notify_one();
            }
        }
    }

    /// Forgets revocations that refuse nothing any more.
    pub async fn forget_revocations(&self) -> Result<(), AppError> {
        let mut world = self.world().await;
        let outlived = revocation::outlived(&world.revocations, TOKEN_LIFE, clock::now());
        if outlived.is_empty() {
            return Ok(());
        }
        let mut write = self.store.begin().await?;
        for nkey in &outlived {
            store::revocations::remove(&mut write, nkey).await?;
        }
        store::commit(write).await?;
        world.revocations.retain(|nkey, _| !outlived.contains(nkey));
        Ok(())
    }

    /// The last assignment of a node that was removed: nothing, signed.
    pub async fn farewell(&self, node: &NodeId, last: Generation) -> Result<Vec<u8>, AppError> {
        let started = self.world().await.snapshot.started;
        let nothing = Snapshot::empty(self.identity.cluster.clone(), started);
        let sent = SentAssignment { farewell: true, ..assignment::of_node(&nothing, node, last) };
        signed::sign(&self.identity.server, Context::Assignment, &sent)
            .map_err(|error| AppError::Internal(Box::new(error)))
    }

    /// The same for a removed node that asks: one that was away when it was cut off has not heard
    /// that it runs nothing any more.
    pub async fn farewell_for(&self, message: &[u8]) -> Result<Vec<u8>, AppError> {
        let request = register::open(message)?;
        let last = self.world().await.removed.get(&request.node).copied();
        let Some(last) = last else {
            return Err(AppError::NotFound(format!("node {} was not removed", request.node)));
        };
        self.farewell(&request.node, last).await
    }
}
