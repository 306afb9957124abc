//! While all is calm it can be said beforehand what becomes of a deployment: a sound image comes
//! to run everywhere, any other is rolled back to what ran before, or waits for a person.

use knit_rpc::api::{Cause, RolloutState};
use knit_rpc::id::DeploymentName;
use knit_rpc::spec::{Mode, OnFailure, Strategy};
use knit_server_core::{Deployment, revise};

use super::image::{KINDS, Kind};
use super::people;
use super::story::Story;
use super::world::SECOND;

/// Seconds until a rollout ends, at most.
const ENDS_WITHIN: u64 = 400;

impl Story {
    /// Somebody deploys another image of something that runs well, and what becomes of it is what
    /// was foreseen.
    pub(super) fn foresee(&mut self) -> Result<(), String> {
        let all: Vec<Deployment> =
            self.world.server.snapshot.deployments.values().cloned().collect();
        let well: Vec<Deployment> = all.into_iter().filter(|one| self.is_well(one)).collect();
        let Some(before) = self.world.rng.pick(&well).cloned() else { return Ok(()) };
        let Some(kind) = self.world.rng.pick(&KINDS).copied() else { return Ok(()) };
        let bakes = before.spec.update.bake.duration().as_secs() >= 1;
        if kind == Kind::Crashing && (!bakes || before.spec.health.ready.is_some()) {
            // It may serve for long enough to be taken for good.
            return Ok(());
        }
        let Some(spec) = self.people.deploy_image(&mut self.world, &before, kind) else {
            return Ok(());
        };
        let Some(after) = self.until_it_ends(&before.spec.name)? else { return Ok(()) };
        let made = before.revision + 1;
        let is_rolled_back = after.revision == made + 1 && after.spec == before.spec;
        let state = |number: u64| after.revisions.get(&number).map(|revision| revision.state);
        let as_foreseen = match (kind.is_sound(), before.spec.update.on_failure) {
            (true, _) => after.spec == spec && state(made) == Some(RolloutState::Succeeded),
            (false, OnFailure::Pause) => after.rollout.as_ref().is_some_and(|one| one.paused),
            (false, OnFailure::Rollback) => {
                is_rolled_back
                    && state(made) == Some(RolloutState::RolledBack)
                    && state(made + 1) == Some(RolloutState::Succeeded)
                    && after.revisions.get(&after.revision).is_some_and(|newest| {
                        matches!(newest.cause, Cause::Rollback { automatic: true, .. })
                    })
            }
        };
        if !as_foreseen {
            let name = &before.spec.name;
            let states: Vec<_> = after.revisions.iter().map(|(n, one)| (n, one.state)).collect();
            return Err(format!("{name} with a {} image ends as {states:?}", kind.as_str()));
        }
        if after.rollout.is_some()
            && let Ok(back) = revise::abort(&after, self.world.now)
        {
            self.world.tell("people: abort");
            self.world.server.put(back);
        }
        self.come_to_rest()
    }

    /// Whether it runs as it should, everywhere it should.
    fn is_well(&self, deployment: &Deployment) -> bool {
        let snapshot = &self.world.server.snapshot;
        let slots = snapshot.instances.of_deployment(&deployment.id).count();
        deployment.spec.mode == Mode::Replicated
            && deployment.removed_at.is_none()
            && !deployment.stopped
            && deployment.rollout.is_none()
            && deployment.stable == Some(deployment.revision)
            && Kind::of(&deployment.spec.instance.image).is_sound()
            && slots > 0
            && slots == deployment.spec.replicas as usize
            && !self.world.server.plan.unplaced.contains_key(&deployment.id)
    }

    /// The deployment once its rollout has ended or waits for a person; canaries are promoted.
    /// None when a slot had no place for a while: then nothing is foreseen.
    fn until_it_ends(&mut self, name: &DeploymentName) -> Result<Option<Deployment>, String> {
        let mut had_places = true;
        for _ in 0..ENDS_WITHIN * SECOND {
            self.tick()?;
            let Some(known) = people::named(&self.world, name.as_str()) else { return Ok(None) };
            let unplaced = self.world.server.plan.unplaced.get(&known.id);
            // Who stops first has none for a moment.
            had_places &= unplaced.into_iter().flatten().all(|one| one.reasons.is_empty());
            let Some(rollout) = &known.rollout else { return Ok(had_places.then_some(known)) };
            let is_canary = known.spec.update.strategy == Strategy::Canary && !rollout.promoted;
            let is_healthy = rollout.message.as_ref().is_some_and(|text| text.contains("promote"));
            if rollout.paused && is_canary && is_healthy {
                let promoted = revise::promote(&known, self.world.now)?;
                self.world.tell("people: promote");
                self.world.server.put(promoted);
            } else if rollout.paused {
                return Ok(had_places.then_some(known));
            }
        }
        Err(format!("the rollout of {name} does not end"))
    }
}
