//! What is not urgent: how full the host is, which images are here, and which of them go.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use knit_agent_core::garbage::{self, Image};
use knit_agent_core::usage::{self, Amount, Reading};
use knit_agent_core::{Desired, container};
use knit_rpc::message::Generation;
use tokio::time::{MissedTickBehavior, interval};

use crate::engine::{Engine, EngineError};
use crate::host::load::{self, Ticks};
use crate::shared::{HostFacts, Shared};
use knit_runtime::error::sentence;

const EVERY: Duration = Duration::from_secs(10);
/// Images are looked at this often when nothing new is assigned.
const IMAGES_EVERY: Duration = Duration::from_secs(30);
/// A disk that stays full is spoken of this often.
const FULL_SAID_EVERY: Duration = Duration::from_mins(10);

/// The loop and what it alone knows.
struct Upkeep {
    shared: Arc<Shared>,
    engine: Arc<dyn Engine>,
    ticks: Ticks,
    /// When images were looked at, with which assignment, and after how many pulls.
    looked: Option<(Instant, Generation, u64)>,
    said_full: Option<Instant>,
}

pub async fn run(shared: Arc<Shared>, engine: Arc<dyn Engine>) {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = shared.engine.subscribe();
    let ticks = Ticks::now();
    let mut upkeep = Upkeep { shared, engine, ticks, looked: None, said_full: None };
    // Nothing is known before Docker says where it keeps things.
    if known.wait_for(|engine| engine.info.is_some()).await.is_err() {
        return;
    }
    loop {
        every.tick().await;
        upkeep.step().await;
    }
}

impl Upkeep {
    async fn step(&mut self) {
        let Some(root) = self.shared.engine.borrow().info.as_ref().map(|info| info.root.clone())
        else {
            return;
        };
        let disk = load::disk(&root);
        self.measure(disk);
        if let Err(error) = self.look_at_images(disk, root).await {
            tracing::debug!(cause = sentence(&error), "images were not looked at");
        }
    }

    fn measure(&mut self, disk: Amount) {
        let ticks = Ticks::now();
        let cpu_percent = ticks.busy_since(self.ticks);
        self.ticks = ticks;
        let reading = Reading { cpu_percent, memory: load::memory(), disk };
        self.shared.host.send_if_modified(|known| {
            let usage = usage::told(known.usage, reading);
            let changed = (known.disk, known.usage) != (disk.total, usage);
            (known.disk, known.usage) = (disk.total, usage);
            changed
        });
    }

    async fn look_at_images(&mut self, disk: Amount, root: PathBuf) -> Result<(), EngineError> {
        let (applied, pulls) = (self.shared.applied(), self.shared.images.pulls());
        let is_fresh = self.looked.is_some_and(|(at, with, after)| {
            at.elapsed() < IMAGES_EVERY && (with, after) == (applied, pulls)
        });
        let is_full = disk.is_over(self.shared.config.garbage.high);
        if is_fresh && !is_full {
            return Ok(());
        }
        let here = self.engine.images().await?;
        let used = self.desired().map(|desired| {
            let wanted = desired.instances.values();
            wanted.map(|wanted| container::image(&wanted.spec)).collect()
        });
        self.shared.images.used(used.unwrap_or_default(), &here);
        if is_full {
            self.collect(disk, &here, root).await?;
        }
        self.tell(&self.engine.images().await?);
        self.looked = Some((Instant::now(), applied, pulls));
        Ok(())
    }

    fn tell(&self, here: &[Image]) {
        let images = self.shared.images.remembered().present(here);
        self.shared.host.send_if_modified(|HostFacts { images: known, .. }| {
            let changed = *known != images;
            *known = images;
            changed
        });
    }

    /// Removes images, one after the other, until the disk is no more than `low` full.
    async fn collect(
        &mut self,
        mut disk: Amount,
        here: &[Image],
        root: PathBuf,
    ) -> Result<(), EngineError> {
        let marks = self.shared.config.garbage;
        let Some(desired) = self.desired() else { return Ok(()) };
        let in_use = self.engine.images_in_use().await?;
        let remembered = self.shared.images.remembered();
        let needed = garbage::needed(&desired);
        for image in garbage::removable(here, &in_use, &needed, &remembered) {
            // What was assigned meanwhile may need it.
            let is_current = self.desired().is_some_and(|now| Arc::ptr_eq(&now, &desired));
            if !disk.is_over(marks.low) || !is_current {
                return Ok(());
            }
            for reference in image.references() {
                if let Err(error) = self.engine.remove_image(reference).await {
                    tracing::warn!(image = reference, cause = sentence(&error), "is not removed");
                }
            }
            let before = std::mem::replace(&mut disk, load::disk(&root));
            tracing::info!(
                image = image.references()[0],
                bytes_freed = before.used.saturating_sub(disk.used),
                "removed an image: the disk is full"
            );
        }
        if disk.is_over(marks.high)
            && self.said_full.is_none_or(|at| at.elapsed() > FULL_SAID_EVERY)
        {
            self.said_full = Some(Instant::now());
            tracing::warn!(
                bytes_used = disk.used,
                bytes_total = disk.total,
                "the disk is full, and no image is left that may be removed"
            );
        }
        Ok(())
    }

    fn desired(&self) -> Option<Arc<Desired>> {
        self.shared.assignment.borrow().as_ref().map(|held| Arc::clone(&held.desired))
    }
}
