//! What must hold at every moment, told by a small model that plans nothing.
//!
//! Safety, at each tick: a slot has no more live containers than its rollout allows; data is used
//! where it was made, by one writer; a port leads to what serves; a cut path loses nobody; and
//! while nothing goes wrong nobody has fewer healthy slots than were promised.
//!
//! Liveness, once nothing goes wrong any more: [`rest`].

mod live;
mod ports;
mod promises;
pub(super) mod rest;
mod slots;

use super::faults::Faults;
use super::world::World;

pub(super) use live::Live;

/// What the model remembers between two ticks.
#[derive(Debug, Default)]
pub(super) struct Reference {
    slots: slots::Slots,
    ports: ports::Ports,
    promises: promises::Promises,
}

impl Reference {
    /// What is wrong now, in a sentence.
    pub(super) fn check(&mut self, world: &mut World, faults: &Faults) -> Result<(), String> {
        if let Some(wrong) = world.hosts.values_mut().find_map(|host| host.wrongs.pop()) {
            return Err(wrong);
        }
        let all = live::all(world);
        self.slots.check_data(world, &all)?;
        slots::check_started(world, faults, &all)?;
        self.slots.check(world, faults, &all)?;
        self.ports.check(world, faults, &all)?;
        self.promises.check(world, faults, &all)
    }
}
