//! Nodes: registering, beating, and what people do to them.

mod beat;
mod join;
mod manage;
mod register;
mod revoke;

use std::collections::BTreeSet;

use knit_rpc::Timestamp;
use knit_rpc::event::EventKind;
use knit_rpc::message::Generation;
use knit_server_core::liveness::Life;
use knit_server_core::{Node, Snapshot, adoption};

pub(super) use manage::named;
pub use register::TOKEN_LIFE;

use super::{App, AppError};
use crate::store::{self, Write};

/// Writes a node down, and the epoch if it rose.
async fn put(write: &mut Write, node: &Node, epoch: Option<u64>) -> Result<(), AppError> {
    if let Some(epoch) = epoch {
        store::set_epoch(write, epoch).await?;
    }
    store::nodes::put(write, node).await?;
    Ok(())
}

/// Takes note of the life that speaks for a node; a host that was booted anew is told of.
fn note_life(app: &App, node: &mut Node, life: Life, now: Timestamp) {
    if !node.lives.note(life, now) {
        return;
    }
    node.rebooted_at = Some(now);
    tracing::warn!(node.id = %node.id, name = node.name(), "a node was booted anew");
    let name = node.name().to_owned();
    app.feed.tell(now, EventKind::NodeRebooted { node: node.id.clone(), name });
}

/// The lowest number that no other node has.
fn lowest_free(snapshot: &Snapshot) -> u32 {
    let taken: BTreeSet<u32> = snapshot.nodes.values().map(|node| node.number).collect();
    (0..u32::MAX).find(|number| !taken.contains(number)).unwrap_or(u32::MAX)
}

/// A node that works on something newer than was ever sent to it has to be taken in first; then
/// the epoch rises above what it works on. One that does not has nothing to be taken in.
fn notice_forgotten(snapshot: &Snapshot, node: &mut Node, applied: Generation) -> Option<u64> {
    if !adoption::is_forgotten(node, applied) {
        node.adopting = false;
        return None;
    }
    let epoch = adoption::epoch_above(snapshot.epoch, applied);
    if node.adopting {
        return Some(epoch).filter(|epoch| *epoch > snapshot.epoch);
    }
    tracing::warn!(
        node.id = %node.id,
        %applied,
        published = %node.published,
        "a node works on a newer assignment than this server knows: taking in what it runs before \
         anything is decided for it"
    );
    node.adopting = true;
    Some(epoch)
}
