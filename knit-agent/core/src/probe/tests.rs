//! One instance after another, asked on a clock of the test's own.

use knit_rpc::spec::{Health, ProbeKind, RunPolicy, Span};

use super::*;
use crate::health::{self, Verdict};
use crate::memory::Memory;
use crate::observed::Healthcheck;
use crate::publish::{HostPort, Scope, Target};
use crate::reconcile::tests::{container, desired, spec, wanted};

fn probe(port: u16) -> Probe {
    serde_json::from_value(serde_json::json!({"tcp": {"port": port}})).unwrap()
}

fn health(ready: Option<Probe>, alive: Option<Probe>) -> Health {
    Health { ready, alive, ..Health::default() }
}

/// One instance whose container started at second 100.
struct World {
    desired: Desired,
    container: Container,
    memory: Memory,
    published: PortMap,
    now: Timestamp,
}

impl World {
    fn new(health: Health) -> Self {
        let mut one = wanted("web", 0, 1, spec("web", None));
        one.policy = RunPolicy { health, ..RunPolicy::default() }.into();
        let mut container = container(&one, ContainerState::Running, 2);
        let now = at(100_000);
        container.started_at = Some(now);
        let mut memory = Memory::default();
        memory.probes.began = true;
        let mut world =
            Self { desired: desired([one]), container, memory, published: PortMap::new(), now };
        world.follow();
        world
    }

    fn wanted(&mut self) -> &mut Wanted {
        self.desired.instances.values_mut().next().unwrap()
    }

    fn follow(&mut self) {
        let identity = Identity::of(&self.container, &self.desired.owner).unwrap();
        let running = [(identity, &self.container)];
        self.memory.probes.follow(&self.desired, &running, &self.published, self.now);
    }

    fn ask(&mut self) -> Vec<Question> {
        self.memory.probes.ask(self.now)
    }

    /// Asks what is due, and has all of it answered.
    fn answer(&mut self, answer: &Answer) -> usize {
        let questions = self.ask();
        for question in &questions {
            self.memory.probes.answered(question, answer.clone());
        }
        questions.len()
    }

    fn verdict(&self) -> Verdict {
        let (id, wanted) = self.desired.instances.iter().next().unwrap();
        health::verdict(id, wanted, &self.container, &self.memory, self.now)
    }

    /// Goes on to when the next question is due; how far that was, in milliseconds.
    fn forward(&mut self) -> u64 {
        let next = self.memory.probes.next(self.now).unwrap();
        let by = next.since(self.now);
        self.now = next.max(self.now);
        u64::try_from(by.as_millis()).unwrap()
    }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn ill() -> Answer {
    Answer::Ill("status 503".to_owned())
}

#[test]
fn a_starting_instance_is_asked_every_quarter_second_and_then_at_its_interval() {
    let mut world = World::new(health(Some(probe(80)), None));
    let mut pauses = Vec::new();
    for well in [false, false, true, true, false] {
        let answer = if well { Answer::Well } else { ill() };
        assert_eq!(world.answer(&answer), 1);
        pauses.push(world.forward());
    }
    assert_eq!(pauses, [250, 250, 2_000, 2_000, 2_000]);

    let quick = Probe { interval: Span::from_millis(100), ..probe(80) };
    let mut world = World::new(health(Some(quick), None));
    world.answer(&ill());
    assert_eq!(world.forward(), 100, "who is asked more often anyway is");
}

#[test]
fn one_success_makes_it_ready_and_failures_in_a_row_unready() {
    let mut world = World::new(health(Some(probe(80)), None));
    assert_eq!(world.verdict(), Verdict::Starting(None));
    world.answer(&ill());
    let why = "connecting to port 80: status 503";
    assert_eq!(world.verdict(), Verdict::Starting(Some(format!("not ready yet: {why}"))));
    for (answer, ready) in [
        (Answer::Well, true),
        (ill(), true),
        (ill(), true),
        (Answer::Well, true),
        (ill(), true),
        (ill(), true),
        (Answer::Unasked, true),
        (ill(), false),
        (ill(), false),
        (Answer::Well, true),
    ] {
        world.forward();
        world.answer(&answer);
        let unready = Verdict::Unready(format!("not ready any more: {why}"));
        assert_eq!(world.verdict(), if ready { Verdict::Ready } else { unready });
    }
}

#[test]
fn who_is_not_ready_in_time_is_late_and_pulling_does_not_count() {
    let mut world = World::new(health(Some(probe(80)), None));
    world.answer(&ill());
    world.now = at(159_999);
    assert!(matches!(world.verdict(), Verdict::Starting(_)), "a container that started at 100 s");
    world.now = at(160_000);
    let late = "not ready within 60 s: connecting to port 80: status 503";
    assert_eq!(world.verdict(), Verdict::Late(late.to_owned()));
    world.answer(&Answer::Well);
    assert_eq!(world.verdict(), Verdict::Ready, "better late");
    world.now = at(1_000_000);
    assert_eq!(world.verdict(), Verdict::Ready, "once ready it is never late");
}

#[test]
fn alive_is_asked_once_it_is_ready_and_kills_after_failures_in_a_row() {
    let mut world = World::new(health(Some(probe(80)), Some(probe(81))));
    let questions = world.ask();
    assert_eq!(questions.len(), 1, "only whether it is ready");
    world.memory.probes.answered(&questions[0], Answer::Well);
    let started = world.now;
    for _ in 0..3 {
        assert_eq!(world.verdict(), Verdict::Ready);
        let questions = world.ask();
        let alive = questions.iter().find(|one| one.purpose == Purpose::Alive).unwrap();
        assert_eq!(alive.probe.kind, ProbeKind::Tcp { port: 81 });
        world.memory.probes.answered(alive, ill());
        for question in questions.iter().filter(|one| one.purpose == Purpose::Ready) {
            world.memory.probes.answered(question, Answer::Well);
        }
        world.forward();
    }
    let dead = "not alive: connecting to port 81: status 503";
    assert_eq!(world.verdict(), Verdict::Dead(dead.to_owned()));
    assert!(world.now.since(started) <= Duration::from_secs(7), "which is soon");
}

#[test]
fn who_boots_is_not_dead_without_a_ready_probe() {
    let mut world = World::new(health(None, Some(probe(81))));
    assert_eq!(world.verdict(), Verdict::Ready);
    for _ in 0..5 {
        assert_eq!(world.answer(&ill()), 1, "asked at once");
        world.forward();
    }
    assert_eq!(world.verdict(), Verdict::Ready);
    world.now = at(160_000);
    assert!(matches!(world.verdict(), Verdict::Dead(_)), "but start_within is over");

    let mut world = World::new(health(None, Some(probe(81))));
    world.answer(&Answer::Well);
    for _ in 0..3 {
        assert_eq!(world.verdict(), Verdict::Ready);
        world.forward();
        world.answer(&ill());
    }
    assert!(matches!(world.verdict(), Verdict::Dead(_)), "it had booted");
}

#[test]
fn never_two_questions_of_one_probe_and_never_more_than_a_bound() {
    let mut world = World::new(health(Some(probe(80)), None));
    let first = world.ask();
    world.now = at(200_000);
    assert_eq!(world.ask(), [], "the first is under way");
    assert_eq!(world.memory.probes.next(world.now), None, "and nothing to wake for");
    world.memory.probes.answered(&first[0], Answer::Unasked);
    assert_eq!(world.ask().len(), 1);

    let many = desired((0..100).map(|slot| {
        let mut one = wanted("web", slot, 1, spec("web", None));
        one.policy =
            RunPolicy { health: health(Some(probe(80)), None), ..RunPolicy::default() }.into();
        one
    }));
    let containers: Vec<Container> =
        many.instances.values().map(|one| container(one, ContainerState::Running, 2)).collect();
    let running: Vec<_> =
        containers.iter().map(|one| (Identity::of(one, &many.owner).unwrap(), one)).collect();
    let mut probes = Probes::default();
    probes.follow(&many, &running, &PortMap::new(), at(1));
    let asked = probes.ask(at(1));
    assert_eq!(asked.len(), OPEN_MAX);
    assert_eq!((probes.ask(at(1)).len(), probes.next(at(1))), (0, None));
    probes.answered(&asked[0], Answer::Well);
    assert_eq!(probes.ask(at(1)).len(), 1, "an answer makes room");
}

#[test]
fn another_start_is_another_run() {
    let mut world = World::new(health(Some(probe(80)), None));
    let old = world.ask().remove(0);
    world.container.started_at = Some(at(105_000));
    world.now = at(105_000);
    world.follow();
    assert!(!world.memory.probes.answered(&old, Answer::Well), "an answer that comes late");
    assert_eq!(world.verdict(), Verdict::Starting(None));
    assert_eq!(world.ask().len(), 1, "and is waited for by nobody");
}

#[test]
fn a_policy_that_changes_counts_at_once_and_takes_nothing_away() {
    let mut world = World::new(health(Some(probe(80)), None));
    world.answer(&Answer::Well);
    world.wanted().policy =
        RunPolicy { health: health(Some(probe(90)), None), ..RunPolicy::default() }.into();
    world.follow();
    assert_eq!(world.verdict(), Verdict::Ready, "until the new probe says otherwise");
    let asked = world.ask();
    assert_eq!(asked[0].probe.kind, ProbeKind::Tcp { port: 90 });

    world.wanted().policy = RunPolicy::default().into();
    world.follow();
    world.memory.probes.answered(&asked[0], ill());
    assert_eq!((world.verdict(), world.ask()), (Verdict::Ready, vec![]));
}

#[test]
fn who_serves_when_the_agent_starts_is_ready_and_who_does_not_is_asked() {
    for serves in [true, false] {
        let mut world = World::new(health(Some(probe(80)), None));
        world.memory = Memory::default();
        world.now = at(900_000);
        if serves {
            let key = HostPort {
                scope: Scope::Mesh,
                protocol: knit_rpc::spec::Protocol::Tcp,
                port: 8080,
            };
            let address = world.container.address().unwrap();
            world.published.insert(key, Target { address, port: 80 });
        }
        world.follow();
        let expected = if serves { Verdict::Ready } else { Verdict::Starting(None) };
        assert_eq!(world.verdict(), expected, "and nobody is late");
        assert_eq!(world.memory.probes.is_undecided(), !serves);
        for left in (0..3).rev() {
            world.answer(&ill());
            world.forward();
            assert_eq!(world.verdict() == Verdict::Ready, serves && left > 0);
        }
        assert!(!world.memory.probes.is_undecided());
    }
}

#[test]
fn who_starts_later_is_not_ready_for_having_the_address_of_one_that_ended() {
    let mut world = World::new(health(Some(probe(80)), None));
    let key = HostPort { scope: Scope::Mesh, protocol: knit_rpc::spec::Protocol::Tcp, port: 8080 };
    let address = world.container.address().unwrap();
    world.published.insert(key, Target { address, port: 80 });
    world.container.started_at = Some(at(200_000));
    world.now = at(200_000);
    world.follow();
    assert_eq!(world.verdict(), Verdict::Starting(None));
}

#[test]
fn dockers_own_check_stands_in_for_a_probe_that_is_not_there() {
    let check = |state| {
        let first_within = Duration::from_secs(90);
        Some(Healthcheck { state, first_within, answer: "exit code 1: no".to_owned() })
    };
    let why = "Docker's HEALTHCHECK: exit code 1: no";
    let mut world = World::new(Health::default());
    world.memory.probes = Probes::default();
    let mut show = |state, now| {
        world.container.healthcheck = check(state);
        world.now = at(now);
        world.follow();
        world.verdict()
    };
    let starting = Verdict::Starting(Some(format!("not ready yet: {why}")));
    assert_eq!(show(HealthState::Starting, 100_000), starting);
    assert_eq!(show(HealthState::Starting, 189_999), starting, "its first answer may come late");
    assert!(matches!(show(HealthState::Starting, 190_000), Verdict::Late(_)));
    assert_eq!(show(HealthState::Healthy, 190_000), Verdict::Ready);
    let dead = Verdict::Dead(format!("not alive: {why}"));
    assert_eq!(show(HealthState::Unhealthy, 200_000), dead);

    // With a probe of its own for one purpose, it says only what is left to say.
    let mut world = World::new(health(Some(probe(80)), None));
    world.container.healthcheck = check(HealthState::Starting);
    world.answer(&Answer::Well);
    assert_eq!(world.verdict(), Verdict::Ready);
    world.container.healthcheck = check(HealthState::Unhealthy);
    assert_eq!(world.verdict(), dead);
    let mut world = World::new(health(None, Some(probe(81))));
    for (state, verdict) in [
        (HealthState::Healthy, Verdict::Ready),
        (HealthState::Unhealthy, Verdict::Unready(format!("not ready any more: {why}"))),
    ] {
        world.container.healthcheck = check(state);
        world.follow();
        world.answer(&Answer::Well);
        assert_eq!(world.verdict(), verdict);
    }
}

#[test]
fn who_is_paused_is_not_asked_and_gets_its_time_again() {
    let mut world = World::new(health(Some(probe(80)), None));
    world.container.state = ContainerState::Paused;
    world.now = at(500_000);
    world.follow();
    assert_eq!(world.ask(), []);
    world.container.state = ContainerState::Running;
    world.now = at(501_000);
    world.follow();
    assert_eq!(world.verdict(), Verdict::Starting(None));
    assert_eq!(world.ask().len(), 1);
}

#[test]
fn a_clock_that_is_set_back_stops_no_question() {
    let mut world = World::new(health(Some(probe(80)), None));
    world.answer(&Answer::Well);
    world.now = at(50_000);
    assert_eq!(world.memory.probes.next(world.now), Some(world.now));
    assert_eq!(world.ask().len(), 1);
}
