//! A node's life: whatever happens to it in whatever order, some things never happen, and when
//! nothing happens any more all is well in the end.

use std::time::Duration;

use knit_rpc::message::Phase;
use knit_rpc::spec::{Health, Probe, VolumeMount};
use proptest::prelude::*;

use super::model::carry_out;
use super::*;
use crate::observed::{HealthState, Healthcheck};
use crate::probe::{Answer, Purpose, Run};
use crate::publish::Target;
use crate::status;

/// Seconds within which a node comes to rest: the longest pauses are over by then.
const REST_SECS: u64 = 150;

/// What may happen; containers are meant by their place in a list, modulo its length.
#[derive(Debug, Clone)]
enum Event {
    /// Which revisions of each slot are wanted, the newest two as bits, and whether the newest is
    /// held.
    Assign(Vec<(u8, bool)>),
    NewRevision,
    /// Milliseconds pass.
    Wait(u64),
    Die(usize),
    /// Answers of one container turn bad, or good.
    Sicken(usize, bool),
    /// It accepts no connections, or does.
    Deafen(usize, bool),
    /// The agent is killed after it did so many of its actions.
    Kill(usize),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => proptest::collection::vec((0..4u8, any::<bool>()), 2).prop_map(Event::Assign),
        1 => Just(Event::NewRevision),
        4 => (0..4_000u64).prop_map(Event::Wait),
        1 => (0..8usize).prop_map(Event::Die),
        2 => (0..8usize, any::<bool>()).prop_map(|(one, sick)| Event::Sicken(one, sick)),
        1 => (0..8usize, any::<bool>()).prop_map(|(one, deaf)| Event::Deafen(one, deaf)),
        1 => (0..6usize).prop_map(Event::Kill),
    ]
}

/// What an instance of this walk is like.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
struct Kind {
    ready: bool,
    alive: bool,
    volume: bool,
    /// Whether its image has a HEALTHCHECK.
    check: bool,
}

struct Node {
    kind: Kind,
    revision: u64,
    wanted: Vec<(u8, bool)>,
    desired: Desired,
    observed: Observed,
    now: Timestamp,
    sick: BTreeSet<Run>,
    deaf: BTreeSet<Run>,
    /// Runs that have answered a ready probe well, or that Docker called healthy.
    proven: BTreeSet<Run>,
}

impl Node {
    fn new(kind: Kind) -> Self {
        let mut node = Self {
            kind,
            revision: 2,
            wanted: vec![(1, false), (1, false)],
            desired: desired([]),
            observed: Observed::default(),
            now: at(1_000),
            sick: BTreeSet::new(),
            deaf: BTreeSet::new(),
            proven: BTreeSet::new(),
        };
        node.assign();
        node
    }

    fn assign(&mut self) {
        let mut all = Vec::new();
        for (slot, (bits, held)) in (0..).zip(self.wanted.clone()) {
            for back in 0..2u64 {
                if bits & (1 << back) != 0 {
                    let mut one = self.instance(slot, self.revision - back);
                    one.assigned.held = held && back == 0;
                    all.push(one);
                }
            }
        }
        self.desired = desired(all);
    }

    fn instance(&self, slot: u32, revision: u64) -> Wanted {
        let mut spec = spec("web", None);
        spec.ports.push(port(8080 + u16::try_from(slot).unwrap()));
        if self.kind.volume {
            let (name, path) = ("data".to_owned(), "/data".to_owned());
            spec.volumes.push(VolumeMount { name, path, read_only: false, shared: false });
        }
        let mut one = wanted("web", slot, revision, spec);
        let probe = |port: u16| -> Probe {
            serde_json::from_value(serde_json::json!({"tcp": {"port": port}})).unwrap()
        };
        let health = Health {
            ready: self.kind.ready.then(|| probe(80)),
            alive: self.kind.alive.then(|| probe(81)),
            ..Health::default()
        };
        one.policy = RunPolicy { health, ..RunPolicy::default() }.into();
        one
    }

    fn happen(&mut self, event: &Event) {
        let up: Vec<Container> =
            self.observed.containers.iter().filter(|one| one.state.is_up()).cloned().collect();
        let nth = |index: usize| (!up.is_empty()).then(|| &up[index % up.len()]);
        match event {
            Event::Assign(wanted) => self.wanted.clone_from(wanted),
            Event::NewRevision => self.revision += 1,
            Event::Wait(millis) => {
                for _ in 0..millis / 250 {
                    self.step(usize::MAX);
                    self.now = self.now.plus(Duration::from_millis(250));
                }
            }
            Event::Die(index) => {
                let Some(id) = nth(*index).map(|one| one.id.clone()) else { return };
                let died = self.observed.containers.iter_mut().find(|one| one.id == id).unwrap();
                died.state = ContainerState::Exited;
                (died.finished_at, died.exit_code) = (Some(self.now), Some(1));
                died.networks.clear();
                died.addresses.clear();
            }
            Event::Sicken(index, is_so) => set(&mut self.sick, nth(*index), *is_so),
            Event::Deafen(index, is_so) => set(&mut self.deaf, nth(*index), *is_so),
            Event::Kill(actions) => {
                self.step(*actions);
                self.observed.memory = crate::memory::Memory::default();
            }
        }
        self.assign();
        self.step(usize::MAX);
    }

    /// Looks, asks and decides as the agent's loop does; then `limit` of the actions are done.
    fn step(&mut self, limit: usize) {
        self.look();
        let actions = reconcile(&self.desired, &self.observed, &BTreeSet::new(), self.now);
        self.check(&actions);
        let before = self.observed.published.clone();
        let ports = actions.iter().find_map(Action::ports).unwrap_or(&before).clone();
        let containers = self.observed.clone();
        let running = ours(&self.desired, &containers);
        for (loser, drain) in publish::superseded(&self.desired, &running, &before, &ports) {
            let of = running.iter().find(|(_, one)| one.address() == Some(loser));
            if let Some((identity, _)) = of {
                let until = self.now.plus(drain);
                self.observed.memory.superseded.insert(identity.instance.clone(), until);
            }
        }
        let done = &actions[..actions.len().min(limit)];
        for action in done {
            if let Action::GiveUp { instance, container, why, reason } = action {
                let given_up = containers.containers.iter().find(|one| one.id == *container);
                let run = Run::of(given_up.unwrap());
                self.observed.memory.gives_up(instance, run, *why, reason, self.now);
            }
        }
        carry_out(done, &self.desired, &mut self.observed, self.now);
        for action in done {
            if let Action::Start { instance, .. } = action {
                self.observed.memory.succeeded(instance, std::slice::from_ref(action), false);
            }
        }
        self.look();
    }

    /// What Docker's own check says, where there is one.
    fn check_up(&mut self) {
        for container in &mut self.observed.containers {
            let run = Run::of(container);
            let state = if self.sick.contains(&run) {
                HealthState::Unhealthy
            } else if self.now.since(run.started) < Duration::from_secs(1) {
                HealthState::Starting
            } else {
                HealthState::Healthy
            };
            if !self.kind.ready && state == HealthState::Healthy {
                self.proven.insert(run);
            }
            let (first_within, answer) = (Duration::from_secs(30), "exit code 1".to_owned());
            let shown = Healthcheck { state, first_within, answer };
            container.healthcheck = container.state.is_up().then_some(shown);
        }
    }

    fn look(&mut self) {
        if self.kind.check {
            self.check_up();
        }
        let containers = self.observed.clone();
        let running = ours(&self.desired, &containers);
        let memory = &mut self.observed.memory;
        memory.probes.follow(&self.desired, &running, &containers.published, self.now);
        for question in memory.probes.ask(self.now) {
            let is_well = !self.sick.contains(&question.run);
            if is_well && question.purpose == Purpose::Ready {
                self.proven.insert(question.run.clone());
            }
            let answer = if is_well { Answer::Well } else { Answer::Ill("ill".to_owned()) };
            memory.probes.answered(&question, answer);
        }
        let asked = publish::successors(Some(&self.desired), &running, &containers);
        let is_deaf = |target: &Target| {
            running.iter().any(|(_, one)| {
                one.address() == Some(target.address) && self.deaf.contains(&Run::of(one))
            })
        };
        self.observed.deaf = asked.into_iter().filter(is_deaf).collect();
    }

    /// What never happens.
    fn check(&self, actions: &[Action]) {
        let running = ours(&self.desired, &self.observed);
        let at = |address| running.iter().find(|(_, one)| one.address() == Some(address));
        let published = actions.iter().find_map(Action::ports);
        for target in published.unwrap_or(&self.observed.published).values() {
            let (identity, container) = at(target.address).expect("a port leads to what runs");
            assert!(container.state.is_up());
            let wanted = self.desired.instances.get(&identity.instance).expect("and is wanted");
            assert!(!wanted.assigned.held, "one that is held has no port");
            let run = Run::of(container);
            let proves = self.kind.ready || self.kind.check;
            assert!(!proves || self.proven.contains(&run), "one that was ready");
            let took = !self.observed.published.values().any(|had| had == target);
            let rivals = running.iter().filter(|(other, one)| {
                other.slot() == identity.slot()
                    && one.id != container.id
                    && self
                        .observed
                        .published
                        .values()
                        .any(|had| Some(had.address) == one.address())
                    && self.desired.instances.get(&other.instance).is_some_and(|w| !w.assigned.held)
                    && !self.deaf.contains(&Run::of(one))
            });
            let asked = self.kind.ready || self.kind.alive || self.kind.check;
            if took && !asked && rivals.count() > 0 {
                assert!(!self.deaf.contains(&run), "and accepts connections, if it takes over");
            }
        }
        for action in actions {
            if let Action::Stop { instance, .. } | Action::Remove { instance, .. } = action {
                assert!(!self.desired.instances.contains_key(instance), "{action:?}");
            }
            if let Action::GiveUp { container, .. } = action {
                let found = running.iter().find(|(_, one)| one.id == *container).unwrap();
                assert!(self.sick.contains(&Run::of(found.1)), "{action:?}");
            }
            if let Action::Start { instance, .. } = action {
                let wanted = &self.desired.instances[instance];
                let writes = running.iter().any(|(other, one)| {
                    one.state.is_up()
                        && other.slot() == wanted.slot()
                        && other.instance != *instance
                        && (other.revision < wanted.assigned.revision
                            || !self.desired.instances.contains_key(&other.instance))
                });
                assert!(!self.kind.volume || !writes, "two would have one volume: {action:?}");
            }
        }
    }

    /// Nothing happens any more: all is well in the end.
    fn rest(&mut self) {
        self.sick.clear();
        self.deaf.clear();
        for _ in 0..REST_SECS {
            self.step(usize::MAX);
            self.now = self.now.plus(Duration::from_secs(1));
        }
        self.look();
        let actions = reconcile(&self.desired, &self.observed, &BTreeSet::new(), self.now);
        assert_eq!(actions, [], "nothing left to do");
        let all = status::inventory(&owner(), Some(&self.desired), &self.observed, self.now);
        for status in all {
            let (bits, _) = self.wanted[usize::try_from(status.slot).unwrap()];
            let waits = self.kind.volume && bits == 3;
            assert!(status.phase == Phase::Running || waits, "{status:?}");
        }
        for (slot, (bits, held)) in (0..2u16).zip(&self.wanted) {
            let serves = bits & 2 != 0 || (bits & 1 != 0 && !held);
            let has = self.observed.published.keys().any(|key| key.port == 8080 + slot);
            assert_eq!(has, serves, "slot {slot}");
        }
    }
}

fn set(runs: &mut BTreeSet<Run>, container: Option<&Container>, is_so: bool) {
    let Some(run) = container.map(Run::of) else { return };
    if is_so {
        runs.insert(run);
    } else {
        runs.remove(&run);
    }
}

proptest! {
    #[test]
    fn whatever_happens_ports_lead_to_what_is_ready_and_all_is_well_in_the_end(
        kind in (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(ready, alive, volume, check)| Kind { ready, alive, volume, check }
        ),
        events in proptest::collection::vec(any_event(), 0..25),
    ) {
        let mut node = Node::new(kind);
        for event in &events {
            node.happen(event);
        }
        node.rest();
    }
}
