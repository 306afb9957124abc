//! Each option of a spec, as Docker shows it and as a program inside sees it.

use knit_agent::engine::Engine as _;
use knit_agent_core::{ContainerState, Owner};
use serde_json::{Value, json};

use super::{network, owner, plan, sleeper};
use crate::support::dockerd::{Dockerd, IMAGE, web_command};
use crate::support::namespace::{in_namespace, run};
use crate::support::until;

struct Host {
    dockerd: Dockerd,
    owner: Owner,
}

impl Host {
    async fn new() -> Self {
        let (dockerd, owner) = (Dockerd::start().await, owner(1));
        dockerd.engine().ensure_network(&network(&owner, "10.208.7.0/24")).await.unwrap();
        Self { dockerd, owner }
    }

    /// Starts an instance; its container's name.
    async fn start(&self, name: &str, spec: Value) -> String {
        let plan = plan(&self.owner, name, spec);
        self.dockerd.engine().create(&plan).await.unwrap();
        self.dockerd.engine().start(&plan.name).await.unwrap();
        plan.name
    }

    fn docker(&self, words: &str) -> String {
        run(&format!("docker -H unix://{} {words}", self.dockerd.socket()))
    }

    fn inspect(&self, container: &str) -> Value {
        let shown = self.docker(&format!("inspect {container}"));
        serde_json::from_str::<Value>(&shown).unwrap()[0].clone()
    }

    /// What a command of busybox says inside.
    fn inside(&self, container: &str, command: &str) -> String {
        self.docker(&format!("exec {container} /bin/busybox {command}")).trim().to_owned()
    }
}

#[test]
fn a_container_is_what_its_spec_says() {
    in_namespace(|| async {
        let host = Host::new().await;
        let mut spec = sleeper();
        let options = json!({
            "user": "1000:1001", "working_dir": "/www", "hostname": "box",
            "labels": {"team": "a", "knit.slot": "99"},
            "stop_signal": "SIGQUIT", "stop_grace": "2500ms",
            "ulimits": {"nofile": {"soft": 100, "hard": 200}},
            "sysctls": {"net.ipv4.ip_unprivileged_port_start": "80"},
            "read_only": true, "tmpfs": ["/run:size=1m,mode=755", "/tmp"], "shm_size": "2m",
            "init": true, "dns": ["192.0.2.53"], "cap_drop": ["ALL"],
            "extra_hosts": {"db": "192.0.2.9", "outside": "host-gateway"},
            "log": {"driver": "local", "max_size": "1m", "max_files": 2},
            "resources": {"cpu": 0.5, "memory": "16m", "memory_max": "32m"},
        });
        spec.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let web = host.start("web", spec).await;

        for (command, expected) in [
            ("id -u", "1000"),
            ("id -g", "1001"),
            ("pwd", "/www"),
            ("hostname", "box"),
            ("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "80"),
        ] {
            assert_eq!(host.inside(&web, command), expected, "{command}");
        }
        let inside = |command: &str| host.inside(&web, command);
        assert!(
            inside("cat /proc/1/limits")
                .contains("Max open files            100                  200")
        );
        assert!(inside("cat /proc/1/status").contains("CapEff:\t0000000000000000"));
        assert!(inside("cat /proc/1/cmdline").contains("init"), "an init is the first process");
        assert!(inside("df -k /run").contains("1024"), "its size");
        assert!(inside("df -k /dev/shm").contains("2048"), "its size");
        assert!(inside("mount").contains("tmpfs on /tmp"));
        assert!(inside("mount").lines().next().unwrap().contains("(ro"), "the root");
        let hosts = inside("cat /etc/hosts");
        assert!(hosts.contains("192.0.2.9\tdb"), "{hosts}");
        assert!(hosts.lines().any(|line| line.ends_with("\toutside") && !line.contains("host-")));

        let shown = host.inspect(&web);
        let (config, host_config) = (&shown["Config"], &shown["HostConfig"]);
        assert_eq!(config["Labels"]["team"], "a");
        assert_eq!(config["Labels"]["knit.slot"], "0", "ours win");
        assert_eq!((&config["StopSignal"], &config["StopTimeout"]), (&json!("SIGQUIT"), &json!(3)));
        assert_eq!(host_config["Dns"], json!(["192.0.2.53"]));
        let log = json!({"Type": "local", "Config": {"max-size": "1m", "max-file": "2"}});
        assert_eq!(host_config["LogConfig"], log);
        for (key, expected) in [
            ("Memory", 32 << 20),
            ("MemorySwap", 32 << 20),
            ("MemoryReservation", 16 << 20),
            ("CpuShares", 512),
        ] {
            assert_eq!(host_config[key], expected, "{key}");
        }
    });
}

#[test]
fn who_takes_more_memory_than_allowed_is_killed() {
    in_namespace(|| async {
        let host = Host::new().await;
        let greedy = json!({
            "image": IMAGE, "command": ["/bin/busybox", "tail", "/dev/zero"],
            "resources": {"memory_max": "16m"},
        });
        let greedy = host.start("greedy", greedy).await;
        until("it was killed", || host.inspect(&greedy)["State"]["OOMKilled"] == true).await;
    });
}

#[test]
fn a_stop_sends_the_containers_own_signal_and_waits_its_own_time() {
    in_namespace(|| async {
        let host = Host::new().await;
        // Takes longer than what is usual, and says so.
        let script = "trap 'busybox sleep 11; exit 7' QUIT; while :; do busybox sleep 0.1; done";
        let slow = json!({
            "image": IMAGE, "command": ["/bin/sh", "-c", script],
            "stop_signal": "SIGQUIT", "stop_grace": "30s",
        });
        let slow = host.start("slow", slow).await;
        let engine = host.dockerd.engine();
        engine.stop(&slow, None).await.unwrap();
        let ended = engine.list(&host.owner).await.unwrap().remove(0);
        assert_eq!((ended.state, ended.exit_code), (ContainerState::Exited, Some(7)));
        engine.stop("no-such-container", None).await.unwrap();
    });
}

#[test]
fn containers_on_one_network_find_each_other_by_name() {
    in_namespace(|| async {
        let host = Host::new().await;
        let web = json!({"image": IMAGE, "command": web_command(), "working_dir": "/www"});
        let web = host.start("web", web).await;
        host.inside(&web, "cp /etc/hostname /www/index.html");
        let client = host.start("client", sleeper()).await;
        for name in ["web", "web-0"] {
            assert_eq!(host.inside(&client, &format!("wget -qO- http://{name}/")), "web-0");
        }
    });
}

#[test]
fn other_log_drivers_get_no_options_of_ours() {
    in_namespace(|| async {
        let host = Host::new().await;
        let mut spec = sleeper();
        spec["log"] = json!({"driver": "none", "max_size": "1m", "max_files": 2});
        let quiet = host.start("quiet", spec).await;
        let shown = host.inspect(&quiet)["HostConfig"]["LogConfig"].clone();
        assert_eq!(shown, json!({"Type": "none", "Config": {}}));
        let usual = host.start("usual", sleeper()).await;
        let shown = host.inspect(&usual)["HostConfig"]["LogConfig"].clone();
        let bounds = json!({"max-size": "10m", "max-file": "3"});
        assert_eq!(shown, json!({"Type": "json-file", "Config": bounds}));
    });
}

#[test]
fn what_reaches_into_the_host_does() {
    in_namespace(|| async {
        let host = Host::new().await;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("word"), "from the host").unwrap();
        let mut spec = sleeper();
        let options = json!({
            "cap_drop": ["ALL"], "cap_add": ["NET_ADMIN"],
            "host_mounts": [
                {"host_path": dir.path(), "path": "/given"},
                {"host_path": dir.path(), "path": "/shown", "read_only": true},
            ],
        });
        spec.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let web = host.start("web", spec).await;
        let inside = |command: &str| host.inside(&web, command);
        assert!(inside("cat /proc/1/status").contains("CapEff:\t0000000000001000"));
        assert_eq!(inside("cat /given/word"), "from the host");
        inside("touch /given/made");
        assert!(dir.path().join("made").exists());
        assert!(
            inside("mount")
                .lines()
                .any(|line| { line.contains(" /shown ") && line.contains("(ro") })
        );
        let mut spec = sleeper();
        spec["privileged"] = json!(true);
        // To start it this host must have all capabilities itself, which not every one has.
        let root = plan(&host.owner, "root", spec);
        host.dockerd.engine().create(&root).await.unwrap();
        assert_eq!(host.inspect(&root.name)["HostConfig"]["Privileged"], true);
        assert_eq!(host.inspect(&web)["HostConfig"]["Privileged"], false);

        let mut spec = sleeper();
        let nowhere = dir.path().join("nowhere");
        spec["host_mounts"] = json!([{"host_path": nowhere, "path": "/a"}]);
        let plan = plan(&host.owner, "lost", spec);
        let error = super::permanent(host.dockerd.engine().create(&plan).await);
        assert!(error.contains("nowhere"), "{error}");
        assert!(!nowhere.exists(), "nothing is made on the host");
    });
}
