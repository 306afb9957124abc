//! Keys that say how a deployment is placed, updated and kept, and what its container looks like.

use knit_rpc::spec::{
    Bytes, Cpus, DeploymentSpec, Format, Mode, OnFailure, OnNodeLoss, Order, ProbeKind, PullPolicy,
    Span, SpreadKey, Strategy, Ulimit, Wave, parse,
};
use proptest::prelude::*;

/// Every key that can stand beside the others.
const EVERYTHING: &str = r#"
name: shop
project: front
image: app:1
registry: registry.example:5000
replicas: 4
node_selector: {role: web}
where: 'label.region in ["eu", "us"] && cpus >= 2'
spread: [label.zone, node]
max_per_node: 2
on_node_loss: replace
pull_policy: always
update:
  strategy: canary
  wave: 10%
  order: stop-first
  bake: 1m
  deadline: 10m
  drain: 1500ms
  on_failure: pause
health:
  ready: {http: {port: 8080, path: "/healthz?full=1"}, interval: 5s, timeout: 2s}
  alive: {exec: {command: [pgrep, app]}, failures: 5}
  start_within: 2m
entrypoint: [/app/server]
args: [--listen, "8080"]
env: [LEVEL=debug]
ports: [{container_port: 8080, host_port: 80}]
templates: [{destination: /etc/app.conf, content: x, mode: 0400, uid: 1, gid: 2}]
secrets:
  - {name: tls, file: /run/secrets/tls.key, mode: 0440, uid: 7, on_change: signal, signal: hup}
  - {name: db, env: DB_PASSWORD}
networks: [backend, knit]
log: {driver: local, max_size: 5m, max_files: 2}
resources: {cpu: 0.5, memory: 256m, disk: 2g, memory_max: 512m}
volumes:
  - {name: data, path: /data/}
  - {name: assets, path: /srv, read_only: true, shared: true}
user: 1000:1000
working_dir: /app
hostname: app.internal
labels: [team=web]
stop_signal: quit
stop_grace: 1m
ulimits: {nofile: 1024, nproc: {soft: 512, hard: -1}}
sysctls: {net.core.somaxconn: 1024}
read_only: true
tmpfs: "/run:size=64m"
shm_size: 256m
init: true
dns: [10.0.0.53, "fd00::1"]
extra_hosts: ["db:10.0.0.7", "v6:fd00::2", "node:host-gateway"]
cap_drop: [cap_net_raw, CHOWN]
"#;

fn good(text: &str, format: Format) -> DeploymentSpec {
    parse(text, format).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

/// Every problem of a manifest with these lines, one a line.
fn problems(lines: &str) -> String {
    let text = format!("image: nginx\n{lines}\nname: web\n");
    match parse(&text, Format::Yaml) {
        Ok(spec) => panic!("{lines}\nwas taken as {spec:?}"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn every_key_reaches_its_field() {
    let spec = good(EVERYTHING, Format::Yaml);
    assert_eq!(spec.mode, Mode::Replicated);
    assert_eq!(spec.spread, [SpreadKey::Label("zone".to_owned()), SpreadKey::Node]);
    assert_eq!((spec.max_per_node, spec.on_node_loss()), (Some(2), OnNodeLoss::Replace));
    assert_eq!(spec.pull_policy, PullPolicy::Always);
    assert_eq!((spec.update.strategy, spec.update.order), (Strategy::Canary, Order::StopFirst));
    assert_eq!((spec.update.wave, spec.update.on_failure), (Wave::Percent(10), OnFailure::Pause));
    assert_eq!(spec.update.drain, Span::from_millis(1500));
    assert_eq!(
        (spec.update.bake, spec.update.deadline),
        (Span::from_secs(60), Span::from_secs(600))
    );
    let ready = spec.health.ready.as_ref().unwrap();
    assert_eq!(ready.kind, ProbeKind::Http { path: "/healthz?full=1".to_owned(), port: 8080 });
    assert_eq!((ready.interval, ready.failures), (Span::from_secs(5), 3));
    let alive = spec.health.alive.as_ref().unwrap();
    assert_eq!(alive.kind, ProbeKind::Exec { command: vec!["pgrep".to_owned(), "app".to_owned()] });
    let instance = &spec.instance;
    assert_eq!(instance.command, ["/app/server"]);
    assert_eq!(instance.resources.cpu, Some(Cpus::from_millis(500)));
    assert_eq!(instance.resources.memory_max, Some(Bytes(512 << 20)));
    assert_eq!(instance.volumes[0].path, "/data");
    assert!(instance.volumes[1].read_only && instance.volumes[1].shared);
    assert_eq!(instance.labels["team"], "web");
    assert_eq!((instance.secrets[0].mode, instance.secrets[0].uid), (0o440, 7));
    assert_eq!(instance.secrets[0].signal.as_deref(), Some("SIGHUP"));
    assert_eq!(instance.secrets[1].env.as_deref(), Some("DB_PASSWORD"));
    assert_eq!((instance.secrets[1].mode, instance.secrets[1].path()), (0o400, None));
    assert_eq!(instance.stop_signal.as_deref(), Some("SIGQUIT"));
    assert_eq!(instance.ulimits["nproc"], Ulimit { soft: 512, hard: -1 });
    assert_eq!(instance.ulimits["nofile"], Ulimit { soft: 1024, hard: 1024 });
    assert_eq!(instance.extra_hosts["v6"], "fd00::2");
    assert_eq!(instance.cap_drop, ["NET_RAW", "CHOWN"]);
    assert_eq!(instance.tmpfs, ["/run:size=64m"]);
    assert_eq!(instance.log.driver, "local");
    assert!(instance.read_only && instance.init);
}

#[test]
fn a_spec_as_the_api_shows_it_is_a_manifest() {
    for text in [
        EVERYTHING,
        "{name: a, image: b, mode: every-node}",
        "{name: a, image: b, update: {strategy: blue-green, wave: 3}, health: {ready: {tcp: 80}}}",
        "{name: a, image: b, health: {ready: {http: {port: 80}, interval: 200ms}}}",
        "{name: a, image: b, stop_signal: 3, resources: {cpu: 1500m, memory: 1000000}}",
    ] {
        let spec = good(text, Format::Yaml);
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(good(&json, Format::Json), spec, "{json}");
        assert_eq!(serde_json::from_str::<DeploymentSpec>(&json).unwrap(), spec, "{json}");
    }
}

#[test]
fn what_the_server_filled_in_is_taken_and_left_out() {
    let text = r#"{"name": "a", "image": "b", "secrets": [{"name": "db"}],
        "secret_versions": {"db": 3}, "secret_kib": 64}"#;
    let spec = good(text, Format::Json);
    assert!(spec.instance.secret_versions.is_empty());
    assert_eq!(spec.instance.secret_kib, 0);
}

#[test]
fn a_secret_that_cannot_be_given_so_says_why() {
    for (line, told) in [
        ("secrets: [{}]", "secrets[0].name: is missing"),
        ("secrets: [{name: Db}]", "secret name \"Db\""),
        ("secrets: [{name: a, nmae: b}]", "nmae"),
        ("secrets: [{name: a, file: x}]", "must be an absolute path"),
        ("secrets: [{name: a, env: ''}]", "is no name of a variable"),
        ("secrets: [{name: a, file: /x, env: A}]", "a variable or a file, not both"),
        ("secrets: [{name: a, env: A}, {name: b, env: A}]", "A is set already: by secrets[0]"),
        ("env: {A: x}\nsecrets: [{name: a, env: A}]", "A is set already: by env"),
        ("secrets: [{name: a, on_change: maybe}]", "must be rolling-restart, signal or none"),
        ("secrets: [{name: a, on_change: signal}]", "sends which?"),
        ("secrets: [{name: a, signal: HUP}]", "goes with on_change: signal alone"),
        ("secrets: [{name: a, env: A, on_change: signal, signal: HUP}]", "keeps its variables"),
        (
            "secrets: [{name: a, file: /etc/a, on_change: signal, signal: HUP}]",
            "must be directly in /run/secrets",
        ),
        ("secrets: [{name: a}, {name: a, env: A, on_change: none}]", "has one on_change"),
        ("secrets: [{name: a}, {name: b, file: /run/secrets/a}]", "/run/secrets/a is taken"),
        ("secrets: [{name: a}, {name: b, file: /run/secrets/c/d}]", "or outside of it"),
        ("secrets: [{name: a}]\ntmpfs: /run/secrets", "nothing else"),
        ("secrets: [{name: a}]\nvolumes: [{name: v, path: /run/secrets/v}]", "nothing else"),
    ] {
        let found = problems(line);
        assert!(found.contains(told), "{line}\n{found}");
    }
}

#[test]
fn what_is_at_its_default_is_not_in_the_json() {
    let plain = good("{name: a, image: b}", Format::Yaml);
    let json = serde_json::to_string(&plain).unwrap();
    assert_eq!(json, r#"{"name":"a","project":"default","replicas":1,"image":"b"}"#);
    let spelled = "{name: a, image: b, mode: replicated, pull_policy: missing, init: false,
        update: {strategy: rolling, wave: 25%, bake: 5s}, health: {start_within: 1m}, log: {}}";
    assert_eq!(good(spelled, Format::Yaml), plain);
}

#[test]
fn permissions_that_were_stored_as_a_number_are_still_read() {
    let spec = good(EVERYTHING, Format::Yaml);
    let json = serde_json::to_string(&spec).unwrap();
    assert!(json.contains(r#""mode":"0400""#), "{json}");
    let old = json.replace(r#""mode":"0400""#, r#""mode":256"#);
    assert_eq!(serde_json::from_str::<DeploymentSpec>(&old).unwrap(), spec);
}

#[test]
fn a_wrong_value_says_what_it_may_be() {
    for (line, told) in [
        ("mode: everywhere", "2:7: mode: must be replicated or every-node, not \"everywhere\""),
        ("spread: zone", "spread: must be \"node\" or \"label.NAME\", not \"zone\""),
        ("spread: [node, node]", "spread[1]: stands here a second time"),
        ("where: region", "where: column 1: expected label.NAME"),
        ("max_per_node: 0", "must be a whole number from 1 to 10000, not 0"),
        ("on_node_loss: die", "must be replace, wait or manual, not \"die\""),
        ("update: {wave: 0}", "update.wave: must be a share such as 25%"),
        ("update: {bake: 5}", "update.bake: must be a time such as 250ms, 5s or 1m30s, not \"5\""),
        ("update: {deadline: 0s}", "update.deadline: must be from 1s to 24h, not 0s"),
        (
            "update: {straegy: rolling}",
            "update.straegy: is an unknown key; did you mean \"strategy\"?",
        ),
        ("update: rolling", "update: must be a map, not a text"),
        ("health: {ready: {}}", "health.ready: must hold http, tcp or exec"),
        (
            "health: {ready: {tcp: 1, exec: [a]}}",
            "health.ready.exec: a probe asks one thing: tcp is here",
        ),
        (
            "health: {ready: {http: /health}}",
            "must be a map, for example {port: 8080, path: /health}",
        ),
        ("health: {ready: {http: {path: /}}}", "health.ready.http.port: is missing"),
        ("health: {ready: {http: {port: 1, path: x}}}", "must begin with a slash: \"/x\""),
        ("health: {alive: {exec: true}}", "health.alive.exec: must be a list of words"),
        ("health: {alive: {exec: []}}", "health.alive.exec: names no command"),
        ("health: {alive: {tcp: 1, interval: 5ms}}", "must be from 100ms to 1h, not 5ms"),
        ("health: {alive: {tcp: 1, timeout: 3s}}", "must be from 10ms to 2s, not 3s: an answer"),
        ("health: {alive: {tcp: 1, failures: 0}}", "a whole number from 1 to 100"),
        ("health: {start_within: 0s}", "health.start_within: must be from 100ms to 24h, not 0s"),
        ("pull_policy: IfNotPresent", "must be missing, always or never"),
        ("resources: {cpu: none}", "must be a number of CPUs such as 0.5 or 2"),
        ("resources: {memory_max: 1m}", "resources.memory_max: must be from 6m to"),
        ("volumes: [{name: Data, path: /a}]", "volumes[0].name: must be lower-case letters"),
        ("volumes: [{name: a, path: data}]", "must be an absolute path, for example \"/data\""),
        ("volumes: [{name: a, path: /}]", "cannot be /"),
        ("volumes: [{name: a}]", "volumes[0].path: is missing"),
        ("volumes: [/a]", "volumes[0]: must be a map, not a text"),
        ("user: 'a b'", "must be USER or USER:GROUP"),
        ("working_dir: app", "must be an absolute path"),
        ("hostname: -a", "must be a host's name"),
        ("labels: {knit.node: x}", "\"knit.node\" is Knit's own"),
        ("labels: [a]", "labels[0]: must read NAME=value"),
        ("stop_signal: SIGTRM", "did you mean SIGTERM?"),
        ("stop_grace: 1500ms", "must be whole seconds, not 1s500ms"),
        ("stop_grace: 2h", "must be from 0s to 1h, not 2h"),
        ("ulimits: {files: 1}", "ulimits.files: is no resource limit"),
        ("ulimits: {nofile: many}", "must be a whole number, or -1 for none, not a text"),
        ("ulimits: {nofile: {soft: 2, hard: 1}}", "soft (2) must not be above hard (1)"),
        ("sysctls: {vm.swappiness: 1}", "sysctls.vm.swappiness: is no parameter"),
        ("read_only: yes", "must be true or false, not a text"),
        ("tmpfs: [/a, /a]", "tmpfs[1]: stands here a second time"),
        ("tmpfs: '/a:size 1'", "options must read as in"),
        ("shm_size: 1k", "must be from 64k to"),
        ("dns: [nine]", "dns[0]: must be the address of a name server"),
        ("extra_hosts: {db: there}", "db must have an address or host-gateway, not \"there\""),
        ("cap_drop: [NET_ADMN]", "did you mean NET_ADMIN?"),
        ("cap_add: [SYS_ADMN]", "did you mean SYS_ADMIN?"),
        ("host_mounts: [{host_path: srv, path: /a}]", "must be an absolute path without \"..\""),
        ("host_mounts: [{host_path: /a/../etc, path: /a}]", "without \"..\""),
        ("host_mounts: [{host_path: /a, path: /}]", "cannot be /"),
        ("log: {driver: '-'}", "is no log driver"),
        ("entrypoint: [a]\ncommand: [b]", "2:13: entrypoint: sets what \"command\" sets already"),
    ] {
        let all = problems(line);
        assert!(all.contains(told), "{line}: {all}");
        assert_eq!(all.lines().count(), 1, "{line}: {all}");
    }
}

#[test]
fn so_many_of_each_and_no_more() {
    let ports = |count: u32| {
        let ports: Vec<String> =
            (1..=count).map(|port| format!("{{container_port: 80, host_port: {port}}}")).collect();
        format!("ports: [{}]", ports.join(", "))
    };
    let most = format!("name: web\nimage: nginx\n{}\n", ports(256));
    assert!(parse(&most, Format::Yaml).is_ok());
    let told = problems(&ports(9_000));
    assert!(told.contains("ports: has 9000 entries; at most 256 are possible"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    let env: Vec<String> = (0..1_025).map(|n| format!("V{n}=x")).collect();
    assert!(problems(&format!("env: [{}]", env.join(", "))).contains("env: has 1025 entries"));
}

#[test]
fn what_cannot_be_together_is_told_where_it_stands() {
    for (lines, told) in [
        ("mode: every-node\nreplicas: 3", "3:11: replicas: means nothing with mode every-node"),
        (
            "resources: {memory: 2g, memory_max: 1g}",
            "2:37: resources.memory_max: must be at least the 2g",
        ),
        (
            "volumes: [{name: a, path: /a}, {name: b, path: /a/}]",
            "volumes[1].path: /a is taken: volumes[0]",
        ),
        (
            "volumes: [{name: a, path: /a/x}]\ntemplates: [{destination: /a/x, content: y}]",
            "volumes[0].path: /a/x is taken: templates[0]",
        ),
        ("volumes: [{name: a, path: /a}]\ntmpfs: /a", "tmpfs[0]: /a is taken: volumes[0]"),
        (
            "volumes: [{name: a, path: /a}, {name: a, path: /b, shared: true}]",
            "volumes[1].shared: a cannot be shared in one place and not in another",
        ),
        (
            "volumes: [{name: a, path: /a}]\nupdate: {order: start-first}",
            "3:17: update.order: a volume forces stop-first",
        ),
        (
            "network: host\nupdate: {order: start-first}",
            "update.order: the host's network forces stop-first",
        ),
        (
            "volumes: [{name: a, path: /a}]\nupdate: {strategy: blue-green}",
            "update.strategy: a volume forces stop-first, and blue-green needs both",
        ),
        (
            "update: {strategy: recreate, order: start-first}",
            "update.order: strategy recreate stops",
        ),
        (
            "update: {strategy: blue-green, order: stop-first}",
            "update.order: strategy blue-green starts",
        ),
        (
            "host_mounts: [{host_path: /srv, path: /a}]\ntmpfs: /a",
            "host_mounts[0].path: /a is taken: tmpfs[0]",
        ),
        ("privileged: true\ncap_add: [SYS_TIME]", "cap_add: means nothing with privileged"),
        ("cap_drop: [SYS_TIME]\ncap_add: [SYS_TIME]", "SYS_TIME is in cap_drop as well"),
        ("networks: [none]\nhealth: {ready: {tcp: 1}}", "3:17: health.ready: has no network"),
        ("networks: [none]\nports: [{container_port: 1}]", "ports: nothing can be published"),
        ("network: host\nsysctls: {net.core.somaxconn: 1}", "belongs to the host"),
    ] {
        let all = problems(lines);
        assert!(all.contains(told), "{lines}: {all}");
    }
}

#[test]
fn what_looks_odd_but_works_is_taken() {
    for lines in [
        "replicas: 1\nupdate: {strategy: canary, wave: 50}",
        "replicas: 0",
        "networks: [none]\nhealth: {alive: {exec: [a]}}",
        "volumes: [{name: a, path: /a}]\nupdate: {strategy: canary, order: stop-first}",
        "volumes: [{name: a, path: /a}, {name: a, path: /b}]",
        "volumes: [{name: a, path: /a, read_only: true}]\nupdate: {strategy: blue-green}",
        "mode: every-node\nreplicas: 1",
        "ulimits: {nofile: {soft: 1, hard: -1}}",
        "tmpfs: [/a, '/b:rw,noexec,size=50%']",
    ] {
        good(&format!("name: web\nimage: nginx\n{lines}\n"), Format::Yaml);
    }
}

/// Lines of [`EVERYTHING`] that begin a key, each with what belongs to it.
fn keys() -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for line in EVERYTHING.trim().lines() {
        match keys.last_mut() {
            Some(key) if line.starts_with(' ') => key.extend(["\n", line]),
            _ => keys.push(line.to_owned()),
        }
    }
    keys
}

proptest! {
    #[test]
    fn any_choice_of_keys_survives_its_own_notation(
        chosen in prop::collection::vec(any::<bool>(), keys().len()),
    ) {
        let needed = |key: &str| key.starts_with("name:") || key.starts_with("image:");
        let text: Vec<_> = keys()
            .into_iter()
            .zip(chosen)
            .filter(|(key, chosen)| *chosen || needed(key))
            .map(|(key, _)| key)
            .collect();
        let spec = good(&text.join("\n"), Format::Yaml);
        let json = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(&good(&json, Format::Json), &spec);
        prop_assert_eq!(serde_json::from_str::<DeploymentSpec>(&json).unwrap(), spec);
    }

    #[test]
    fn no_value_of_any_key_makes_the_reader_panic(
        key in prop::sample::select(keys()),
        value in "\\PC{0,20}",
    ) {
        let (key, _) = key.split_once(':').unwrap();
        drop(parse(&format!("name: a\nimage: b\n{key}: {value}\n"), Format::Yaml));
    }
}
