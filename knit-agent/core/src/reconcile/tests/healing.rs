//! Who is ready, who is given up, who waits for whom.

use std::time::Duration;

use knit_rpc::message::{InstanceStatus, LOG_LINE_CHARS_MAX, LOG_LINES_MAX, Phase};
use knit_rpc::spec::{Health, Probe, Span, VolumeMount};

use super::model::carry_out;
use super::*;
use crate::observed::{Log, Step};
use crate::probe::{Answer, Run};
use crate::publish::{HostPort, Scope, Target};
use crate::{last_words, status};

const NOTHING: [Action; 0] = [];

/// With a port and a probe of whether it is ready.
fn web(revision: u64) -> Wanted {
    let mut spec = spec("web", None);
    spec.ports.push(port(8080));
    let mut one = wanted("web", 0, revision, spec);
    one.policy = policy(true, false).into();
    one
}

fn policy(ready: bool, alive: bool) -> RunPolicy {
    let probe = |port: u16| -> Probe {
        serde_json::from_value(serde_json::json!({"http": {"path": "/health", "port": port}}))
            .unwrap()
    };
    let health = Health {
        ready: ready.then(|| probe(80)),
        alive: alive.then(|| probe(81)),
        ..Health::default()
    };
    RunPolicy { health, ..RunPolicy::default() }
}

struct Node {
    desired: Desired,
    observed: Observed,
    now: Timestamp,
}

impl Node {
    fn new(wanted: impl IntoIterator<Item = Wanted>) -> Self {
        let mut observed = with_its_network();
        observed.images.insert("web".to_owned());
        let mut node = Self { desired: desired(wanted), observed, now: at(100) };
        node.follow();
        node
    }

    fn follow(&mut self) {
        let containers = self.observed.containers.clone();
        let observed = Observed { containers, ..Observed::default() };
        let running = ours(&self.desired, &observed);
        let (published, now) = (&self.observed.published, self.now);
        self.observed.memory.probes.follow(&self.desired, &running, published, now);
    }

    /// Adds a container that runs since now.
    fn run(&mut self, wanted: &Wanted, host: u8) {
        let mut found = container(wanted, ContainerState::Running, host);
        found.started_at = Some(self.now);
        self.observed.containers.push(found);
        self.follow();
    }

    fn decide(&self) -> Vec<Action> {
        reconcile(&self.desired, &self.observed, &BTreeSet::new(), self.now)
    }

    fn act(&mut self) -> Vec<Action> {
        let actions = self.decide();
        carry_out(&actions, &self.desired, &mut self.observed, self.now);
        self.follow();
        actions
    }

    /// Everything that is asked of `one` from now on, `seconds` long, is answered so.
    fn answer(&mut self, one: &Wanted, answer: &Answer, seconds: u64) {
        let end = self.now.plus(Duration::from_secs(seconds));
        while self.now < end {
            for question in self.observed.memory.probes.ask(self.now) {
                let is_meant = question.instance == one.assigned.id;
                let answer = if is_meant { answer.clone() } else { Answer::Well };
                self.observed.memory.probes.answered(&question, answer);
            }
            self.now = self.now.plus(Duration::from_millis(250));
        }
    }

    fn status(&self, one: &Wanted) -> InstanceStatus {
        let all = status::inventory(&owner(), Some(&self.desired), &self.observed, self.now);
        all.into_iter().find(|status| status.id == one.assigned.id).unwrap()
    }

    fn phase(&self, one: &Wanted) -> (Phase, String) {
        let status = self.status(one);
        (status.phase, status.message.unwrap_or_default())
    }

    /// Who has the port.
    fn holder(&self) -> Option<u8> {
        let key =
            HostPort { scope: Scope::Mesh, protocol: knit_rpc::spec::Protocol::Tcp, port: 8080 };
        self.observed.published.get(&key).map(|target| target.address.octets()[3])
    }
}

fn ill() -> Answer {
    Answer::Ill("status 503".to_owned())
}

#[test]
fn a_port_leads_to_the_newest_that_is_ready_and_to_nobody_when_none_is() {
    let (old, new) = (web(1), web(2));
    let mut node = Node::new([old.clone(), new.clone()]);
    node.run(&old, 2);
    node.run(&new, 3);
    node.act();
    assert_eq!(node.holder(), None, "nobody has said that it is ready");
    let waits = "not ready yet: GET /health on port 80: status 503";
    node.answer(&new, &ill(), 1);
    node.act();
    assert_eq!(node.holder(), Some(2));
    assert_eq!(node.phase(&old).0, Phase::Running);
    assert_eq!(node.phase(&new), (Phase::Starting, waits.to_owned()));

    node.answer(&new, &Answer::Well, 1);
    node.act();
    assert_eq!(node.holder(), Some(3));
    assert_eq!([node.phase(&old).0, node.phase(&new).0], [Phase::Running; 2]);

    node.answer(&new, &ill(), 7);
    node.act();
    assert_eq!(node.holder(), Some(2), "the older one is ready still");
    let (phase, why) = node.phase(&new);
    assert_eq!(phase, Phase::Unready);
    assert_eq!(why, "not ready any more: GET /health on port 80: status 503");
    node.answer(&old, &ill(), 7);
    node.answer(&new, &ill(), 7);
    node.act();
    assert_eq!(node.holder(), Some(2), "as soon as it was asked it was ready again");
    node.desired = desired([new.clone()]);
    node.act();
    assert_eq!(node.holder(), None, "nobody rather than one that is not ready");
    assert!(node.observed.containers.iter().any(|one| one.id.ends_with(new.assigned.id.as_str())));
}

#[test]
fn one_that_is_held_gets_ready_and_takes_no_port() {
    let (old, mut new) = (web(1), web(2));
    new.assigned.held = true;
    let mut node = Node::new([old.clone(), new.clone()]);
    node.run(&old, 2);
    node.run(&new, 3);
    node.answer(&new, &Answer::Well, 1);
    node.act();
    assert_eq!((node.holder(), node.phase(&new).0), (Some(2), Phase::Running));
    node.observed.containers.remove(0);
    node.follow();
    node.act();
    assert_eq!(node.holder(), None, "not even when nobody has it");
    new.assigned.held = false;
    node.desired = desired([new.clone()]);
    node.act();
    assert_eq!(node.holder(), Some(3), "let go it has it at once");

    // Without a ready probe it has to accept connections, as any that takes a port over.
    new.assigned.held = true;
    new.policy = RunPolicy::default().into();
    node.desired = desired([old, new.clone()]);
    node.follow();
    let running = ours(&node.desired, &node.observed);
    let asked = publish::successors(Some(&node.desired), &running, &node.observed);
    let target = Target { address: Ipv4Addr::new(10, 208, 0, 3), port: 80 };
    assert_eq!(asked, BTreeSet::from([target]));
    drop(running);
    node.observed.deaf.insert(target);
    let (phase, why) = node.phase(&new);
    assert_eq!(phase, Phase::Starting);
    assert!(why.starts_with("nothing accepts connections on its port 80 yet"), "{why}");
}

#[test]
fn the_takers_policy_says_how_long_the_loser_goes_on() {
    for (drain, seconds) in [(Span::ZERO, 0), (Span::from_secs(7), 7)] {
        let (old, mut new) = (web(1), web(2));
        new.policy = RunPolicy { drain, ..policy(true, false) }.into();
        let mut node = Node::new([old.clone(), new.clone()]);
        node.run(&old, 2);
        node.run(&new, 3);
        node.answer(&new, &ill(), 1);
        node.act();
        node.answer(&new, &Answer::Well, 1);
        let before = node.observed.published.clone();
        node.desired = desired([new.clone()]);
        let actions = node.decide();
        let wanted = actions[0].ports().unwrap().clone();
        let running = ours(&node.desired, &node.observed);
        let superseded = publish::superseded(&node.desired, &running, &before, &wanted);
        let loser = Ipv4Addr::new(10, 208, 0, 2);
        assert_eq!(superseded, BTreeMap::from([(loser, Duration::from_secs(seconds))]));
        drop(running);
        let stops = |actions: &[Action]| actions.iter().any(Action::stops);
        assert_eq!(stops(&actions), seconds == 0, "at once, after the port moved");
        node.observed.published = wanted;
        let until = node.now.plus(Duration::from_secs(seconds));
        node.observed.memory.superseded.insert(old.assigned.id.clone(), until);
        node.now = until;
        assert!(stops(&node.decide()));
    }
}

#[test]
fn who_is_not_ready_in_time_is_given_up_and_tried_again_later() {
    let one = web(1);
    let id = &one.assigned.id;
    let mut node = Node::new([one.clone()]);
    node.run(&one, 2);
    node.answer(&one, &ill(), 60);
    let late = "not ready within 60 s: GET /health on port 80: status 503";
    assert_eq!(node.phase(&one), (Phase::Failed, late.to_owned()));
    let run = Run::of(&node.observed.containers[0]);
    let running = ours(&node.desired, &node.observed);
    let due = last_words::due(&node.desired, &running, &node.observed, node.now);
    drop(running);
    assert_eq!(due, [(id.clone(), run.clone())], "before it is stopped");

    let actions = node.decide();
    let [Action::GiveUp { why, reason, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((*why, reason.as_str()), (GivenUp::Late, late));
    node.observed.memory.gives_up(id, run, *why, reason, node.now);
    assert_eq!(node.decide(), NOTHING, "it is under way");
    carry_out(&actions, &node.desired, &mut node.observed, node.now);
    node.follow();
    assert_eq!(node.phase(&one), (Phase::Failed, late.to_owned()));
    node.now = node.now.plus(Duration::from_secs(29));
    assert_eq!(node.decide(), NOTHING);
    node.now = node.now.plus(Duration::from_secs(1));
    let actions = node.act();
    assert!(matches!(&actions[..], [Action::Start { again: true, .. }]), "{actions:?}");
    node.observed.memory.succeeded(id, &actions, true);
    assert_eq!(node.phase(&one).0, Phase::Starting);
}

#[test]
fn who_is_not_alive_is_started_again_and_again_ever_more_slowly() {
    let mut one = web(1);
    one.policy = policy(false, true).into();
    let id = one.assigned.id.clone();
    let mut node = Node::new([one.clone()]);
    node.run(&one, 2);
    node.act();
    let mut pauses = Vec::new();
    for round in 1..=5u32 {
        node.answer(&one, &Answer::Well, 1);
        let died = node.now;
        node.answer(&one, &ill(), 7);
        let dead = "not alive: GET /health on port 81: status 503";
        assert_eq!(node.phase(&one), (Phase::Restarting, dead.to_owned()));
        let actions = node.decide();
        let [.., Action::GiveUp { why, reason, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(actions[0].ports().map(BTreeMap::len), Some(0), "out of the map before that");
        let run = Run::of(&node.observed.containers[0]);
        node.observed.memory.gives_up(&id, run, *why, reason, node.now);
        carry_out(&actions, &node.desired, &mut node.observed, node.now);
        node.follow();
        let ended = node.now;
        let (phase, why) = node.phase(&one);
        if round < 3 {
            assert_eq!((phase, why), (Phase::Restarting, dead.to_owned()));
        } else {
            let again = 1 << (round - 1);
            let expected = format!(
                "ended {round} times in a row, last because it was {dead}; tried again in {again} s"
            );
            assert_eq!((phase, why), (Phase::CrashLoop, expected));
        }
        while node.decide().is_empty() {
            node.now = node.now.plus(Duration::from_millis(250));
        }
        if round == 1 {
            assert!(node.now.since(died) < Duration::from_secs(9), "soon after it died");
        }
        pauses.push(node.now.since(ended).as_secs());
        let actions = node.act();
        node.observed.memory.succeeded(&id, &actions, false);
        assert_eq!(node.status(&one).restarts, round);
        node.act();
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16]);
    let (phase, why) = node.phase(&one);
    assert_eq!(phase, Phase::CrashLoop);
    assert!(why.starts_with("ended 5 times in a row; up for less than 5 s"), "{why}");
    node.answer(&one, &Answer::Well, 6);
    assert_eq!(node.phase(&one).0, Phase::Running, "until it ends again");
}

#[test]
fn a_crash_loop_says_how_often_with_which_code_and_what_it_wrote() {
    let one = wanted("web", 0, 1, spec("web", None));
    let id = &one.assigned.id;
    let mut node = Node::new([one.clone()]);
    node.observed.containers.push(container(&one, ContainerState::Exited, 2));
    node.now = at(3);
    node.follow();
    let lines: Vec<String> = (0..30).map(|line| format!("{line} {}", "x".repeat(400))).collect();
    let run = Run::of(&node.observed.containers[0]);
    let memory = &mut node.observed.memory;
    memory.logs.insert(id.clone(), Log::of(run, &lines));
    memory.restarts.entry(id.clone()).or_default().streak = 1;
    let restarting = (Phase::Restarting, "exited with code 1".to_owned());
    assert_eq!(node.phase(&one), restarting);
    node.observed.memory.restarts.entry(id.clone()).or_default().streak = 4;
    let status = node.status(&one);
    assert_eq!(status.phase, Phase::CrashLoop);
    let why = "ended 5 times in a row, last with code 1; tried again in 16 s";
    assert_eq!(status.message.as_deref(), Some(why));
    assert_eq!((status.log.len(), status.log[0].len()), (LOG_LINES_MAX, LOG_LINE_CHARS_MAX));
    assert!(status.log[0].starts_with("10 ") && status.log[19].starts_with("29 "));

    // One that had run well is not in a loop, however often it had ended before.
    node.observed.containers[0].finished_at = Some(at(500));
    assert_eq!(node.phase(&one), restarting);
    node.observed.containers[0] = container(&one, ContainerState::Running, 2);
    node.observed.memory.restarts.clear();
    node.now = at(600);
    node.follow();
    assert!(node.status(&one).log.is_empty(), "of no use while it runs");
}

#[test]
fn pull_policies_say_when_the_registry_is_asked() {
    let cases = [
        (PullPolicy::Missing, true, vec!["create", "start"]),
        (PullPolicy::Missing, false, vec!["pull", "create", "start"]),
        (PullPolicy::Always, true, vec!["pull", "create", "start"]),
        (PullPolicy::Never, true, vec!["create", "start"]),
        (PullPolicy::Never, false, vec!["image web is not here and pull_policy is never"]),
    ];
    for (pull_policy, is_here, expected) in cases {
        let mut one = wanted("web", 0, 1, spec("web", None));
        one.policy = RunPolicy { pull_policy, ..RunPolicy::default() }.into();
        let mut node = Node::new([one.clone()]);
        if !is_here {
            node.observed.images.clear();
        }
        let actions = node.decide();
        let told = match &actions[..] {
            [Action::Fail { reason, .. }] => vec![reason.as_str()],
            others => names(others),
        };
        assert_eq!(told, expected, "{pull_policy:?} {is_here}");
        if pull_policy == PullPolicy::Always {
            node.observed.containers.push(container(&one, ContainerState::Exited, 2));
            let again = node.decide();
            assert!(matches!(&again[..], [Action::Start { .. }]), "only before a new container");
        }
    }
}

#[test]
fn two_never_have_one_volume_or_one_place_on_the_hosts_network() {
    let stateful = |revision: u64, read_only: bool| {
        let mut spec = spec("web", None);
        let path = "/data".to_owned();
        let shared = false;
        spec.volumes.push(VolumeMount { name: "data".to_owned(), path, read_only, shared });
        wanted("web", 0, revision, spec)
    };
    let on_host = |revision: u64| {
        let mut spec = spec("web", None);
        spec.networks.push("host".to_owned());
        wanted("web", 0, revision, spec)
    };
    let cases = [
        (stateful(1, false), stateful(2, false), Some("the volume default/data.0")),
        (stateful(1, false), stateful(2, true), None),
        (on_host(1), on_host(2), Some("its place on the host's network")),
        (web(1), web(2), None),
    ];
    for (old, new, what) in cases {
        for old_is_wanted in [true, false] {
            let mut node =
                Node::new(old_is_wanted.then(|| old.clone()).into_iter().chain([new.clone()]));
            node.run(&old, 2);
            let actions = node.act();
            let is_made = actions.iter().any(|action| matches!(action, Action::Create { .. }));
            assert_eq!(is_made, what.is_none(), "{what:?}");
            let Some(what) = what else { continue };
            node.observed.containers.clear();
            node.run(&old, 2);
            let waits = format!("waits for default/web.0 at revision 1 to end, which has {what}");
            assert_eq!(node.phase(&new), (Phase::Pending, waits));
            node.observed.containers[0].state = ContainerState::Exited;
            assert!(node.decide().iter().any(|action| matches!(action, Action::Create { .. })));
        }
        // The older one does not wait for the newer: a rollback is no deadlock.
        let mut node = Node::new([old.clone(), new.clone()]);
        node.run(&new, 3);
        let makes_old = node.decide().iter().any(
            |action| matches!(action, Action::Create { instance } if *instance == old.assigned.id),
        );
        assert!(makes_old);
    }
}

#[test]
fn a_policy_that_changes_recreates_nothing() {
    let mut one = web(1);
    one.policy = RunPolicy::default().into();
    let mut node = Node::new([one.clone()]);
    node.run(&one, 2);
    node.act();
    assert_eq!((node.holder(), node.decide()), (Some(2), vec![]));
    one.policy = RunPolicy { drain: Span::ZERO, ..policy(true, true) }.into();
    node.desired = desired([one.clone()]);
    node.follow();
    assert_eq!((node.decide(), node.phase(&one).0), (vec![], Phase::Running));
    node.answer(&one, &ill(), 7);
    assert_eq!(node.phase(&one).0, Phase::Restarting, "and counts from now on");
}

#[test]
fn a_pull_says_how_far_it_is() {
    let one = web(1);
    let id = &one.assigned.id;
    let mut node = Node::new([one.clone()]);
    let memory = &mut node.observed.memory;
    memory.busy.insert(id.clone(), Step::Pulling);
    let progress = knit_rpc::message::PullProgress { done: 10, total: 100 };
    memory.pulls.insert(id.clone(), progress);
    let status = node.status(&one);
    assert_eq!((status.phase, status.pull), (Phase::Pulling, Some(progress)));
    node.observed.memory.busy.insert(id.clone(), Step::Starting);
    assert_eq!(node.status(&one).pull, None);
}
