//! A Docker of the test's own, in the namespace of the thread that starts it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bollard::models::NetworkDisconnectRequest;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;
use knit_agent::engine::Engine;
use knit_agent::engine::docker::Docker;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{TempDir, unique};

/// In every test's Docker: busybox, which answers on port 80 with /www/index.html.
pub(crate) const IMAGE: &str = "knit-test:1";

/// Ends with its directory and everything in it.
pub(crate) struct Dockerd {
    process: Option<Child>,
    dir: TempDir,
    group: String,
}

impl Dockerd {
    pub(crate) async fn start() -> Self {
        let mut dockerd = Self { process: None, dir: TempDir::new(), group: unique("/knit-test-") };
        dockerd.run().await;
        dockerd.import_image().await;
        dockerd
    }

    /// On a file system of its own of so many MiB, which ends with it.
    pub(crate) async fn start_on(mib: u32) -> Self {
        let mut dockerd = Self { process: None, dir: TempDir::new(), group: unique("/knit-test-") };
        let data = dockerd.path("data");
        std::fs::create_dir_all(&data).unwrap();
        let size = format!("size={mib}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "knit-test"]).arg(&data);
        assert!(mount.status().unwrap().success());
        dockerd.run().await;
        dockerd.import_image().await;
        dockerd
    }

    pub(crate) fn socket(&self) -> String {
        self.path("s").display().to_string()
    }

    pub(crate) fn engine(&self) -> Docker {
        Docker::new(&self.socket())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the daemon, again after [`Dockerd::stop`].
    pub(crate) async fn run(&mut self) {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let process = Command::new("dockerd")
            .arg("--data-root")
            .arg(self.path("data"))
            .arg("--exec-root")
            .arg(self.path("exec"))
            .arg("--pidfile")
            .arg(self.path("pid"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket()))
            .args(["--cgroup-parent", &self.group])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("these tests need Debian's package docker.io");
        self.process = Some(process);
        let start = Instant::now();
        while self.engine().info().await.is_err() {
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_mins(1), "dockerd does not answer:\n{log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Stops the daemon and all its containers, as `systemctl stop docker` would.
    pub(crate) fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let id = Pid::from_raw(process.id().try_into().unwrap());
        let _ = kill(id, Signal::SIGTERM);
        let start = Instant::now();
        while process.try_wait().is_ok_and(|status| status.is_none()) {
            if start.elapsed() > Duration::from_secs(40) {
                let _ = process.kill();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// As `docker network disconnect` and `docker network rm` would.
    pub(crate) async fn take_network_away(&self, network: &str, container: &str) {
        let client = self.client();
        let request =
            NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
        client.disconnect_network(network, request).await.unwrap();
        client.remove_network(network).await.unwrap();
    }

    fn client(&self) -> bollard::Docker {
        bollard::Docker::connect_with_unix(&self.socket(), 60, bollard::API_DEFAULT_VERSION)
            .unwrap()
    }

    /// The test's image with a HEALTHCHECK: every second, and after its first success one failure
    /// is enough.
    pub(crate) async fn image_with_healthcheck(&self, name: &str, command: &str) {
        let client = self.client();
        let made = self.docker(&["create", IMAGE, "true"]);
        let options = "--start-period=20s --interval=1s --retries=1";
        let check = format!("HEALTHCHECK {options} CMD {command}");
        self.docker(&["commit", "--change", &check, made.trim(), name]);
        self.docker(&["rm", made.trim()]);
        assert!(client.inspect_image(name).await.is_ok());
    }

    fn docker(&self, arguments: &[&str]) -> String {
        let mut docker = Command::new("docker");
        docker.args(["-H", &format!("unix://{}", self.socket())]).args(arguments);
        let output = docker.output().unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    async fn import_image(&self) {
        let root = self.path("image");
        for directory in ["bin", "www"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        let busybox = std::fs::read("/bin/busybox").expect("Debian's package busybox-static");
        std::fs::write(root.join("bin/busybox"), busybox).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(root.join("bin/busybox"), mode).unwrap();
        std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
        let tar = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output().unwrap();
        let client = self.client();
        let options =
            CreateImageOptionsBuilder::new().from_src("-").repo("knit-test").tag("1").build();
        let body = bollard::body_full(tar.stdout.into());
        let mut steps = Box::pin(client.create_image(Some(options), Some(body), None));
        while let Some(step) = steps.next().await {
            step.unwrap();
        }
        assert!(self.engine().has_image(IMAGE).await.unwrap());
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.stop();
        // What a daemon that had to be killed left mounted.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = self.dir.path().display().to_string();
        for target in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
            if target.starts_with(&ours) {
                let _ = Command::new("umount").args(["-l", target]).status();
            }
        }
    }
}

/// Serves its page, and ends when it is asked to.
pub(crate) fn web_command() -> serde_json::Value {
    serde_json::json!([
        "/bin/sh",
        "-c",
        "trap 'exit 0' TERM; busybox httpd -f -p 80 -h /www & wait"
    ])
}
