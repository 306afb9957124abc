//! One story: people want things, much goes wrong, then all is calm, and what is wanted is there.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::faults::Faults;
use super::people::People;
use super::reference::{Reference, rest};
use super::world::{SECOND, World};

/// Ticks until everything is at rest once nothing goes wrong any more, at most.
const REST_MAX: u64 = 420 * SECOND;
/// Seconds for which it has to stay so.
const REST_FOR: u64 = 5;
/// Lines that are shown of a story that ended badly.
const SHOWN: usize = 70;

pub(super) struct Story {
    pub(super) world: World,
    faults: Faults,
    pub(super) people: People,
    reference: Reference,
}

/// Lives the story of a seed; or says what was wrong, with what happened before.
pub(super) fn live(seed: u64) -> Result<(), String> {
    let hosts = u8::try_from(2 + seed % 6).unwrap_or(2);
    let mut story = Story {
        world: World::new(seed, hosts),
        faults: Faults::default(),
        people: People::default(),
        reference: Reference::default(),
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| story.run(seed)));
    let outcome = outcome.unwrap_or_else(|_| Err("it panicked".to_owned()));
    outcome.map_err(|wrong| {
        let told = &story.world.told;
        let shown: Vec<&str> =
            told.iter().skip(told.len().saturating_sub(SHOWN)).map(String::as_str).collect();
        let at = story.world.tick / SECOND;
        format!("seed {seed}, {hosts} hosts, at {at} s: {wrong}\n{}", shown.join("\n"))
    })
}

impl Story {
    fn run(&mut self, seed: u64) -> Result<(), String> {
        self.ticks(3 * SECOND)?;
        // A quarter of all stories know people only.
        let much_goes_wrong = !seed.is_multiple_of(4);
        let lasts = self.world.rng.between(40, 90) * SECOND;
        for _ in 0..lasts {
            if self.world.rng.chance(6) {
                self.people.act(&mut self.world);
            }
            if much_goes_wrong && self.world.rng.chance(3) {
                self.faults.tempt(&mut self.world);
            }
            self.tick()?;
        }
        self.faults.mend(&mut self.world, true);
        self.world.tell("all is calm");
        self.come_to_rest()?;
        self.foresee()?;
        self.foresee()
    }

    fn ticks(&mut self, count: u64) -> Result<(), String> {
        (0..count).try_for_each(|_| self.tick())
    }

    pub(super) fn tick(&mut self) -> Result<(), String> {
        self.faults.mend(&mut self.world, false);
        self.world.tick()?;
        self.reference.check(&mut self.world, &self.faults)
    }

    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        let mut unrest = None;
        let mut rested = 0;
        for _ in 0..REST_MAX / SECOND {
            self.ticks(SECOND)?;
            unrest = rest::unrest(&self.world);
            rested = if unrest.is_none() { rested + 1 } else { 0 };
            if rested > REST_FOR {
                return Ok(());
            }
        }
        Err(format!("no rest: {}", unrest.unwrap_or_default()))
    }
}
