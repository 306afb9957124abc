//! The kernel engine in a kernel that has WireGuard: our own binary in a guest with Debian's.
//!
//! The guest is emulated, so it needs no virtualisation and says nothing of speed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{MESHCTL, Scratch};

const GUEST_MAX: Duration = Duration::from_mins(3);
/// Programs that come into the guest with their libraries, beside our own.
const PROGRAMS: [&str; 2] = ["ip", "ping"];
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

#[test]
fn the_kernel_engine_loses_no_ping_over_kill_9_and_sigterm() {
    let scratch = Scratch::new();
    let kernel = Kernel::find();
    let initramfs = initramfs(&scratch, &kernel);
    let console = boot(&kernel, &initramfs);
    let results: BTreeMap<&str, &str> = console
        .lines()
        .filter_map(|line| line.trim().strip_prefix("RESULT ")?.split_once('='))
        .collect();
    for (name, expected) in [
        ("engine", "kernel"),
        ("mesh", "yes"),
        ("seen", "yes"),
        ("asked", "yes"),
        ("doctor", "yes"),
        ("restarted", "yes"),
        ("taken_over", "yes"),
        ("received", "140"),
        ("kind", "1"),
        ("left", "yes"),
        ("met", "yes"),
        ("rotated", "yes"),
        ("rotated_received", "60"),
        ("rotated_met", "yes"),
        ("other_engine", "refused"),
        ("other_key", "refused"),
    ] {
        assert_eq!(results.get(name), Some(&expected), "{name}; the guest said:\n{console}");
    }
    // WireGuard alone would wait for 5 s.
    let lost = results["lost_handshake_cs"].parse::<u32>().unwrap();
    assert!(lost < 250, "{lost} hundredths of a second; the guest said:\n{console}");
}

/// A kernel image with its modules.
struct Kernel {
    image: PathBuf,
    /// What stands before `/lib/modules`.
    root: PathBuf,
    version: String,
}

impl Kernel {
    /// The host's installed kernel, or Debian's unpacked into a cache: installing it is not needed.
    fn find() -> Self {
        Self::in_root(Path::new("/")).unwrap_or_else(|| {
            let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-kernel");
            Self::in_root(&cache).unwrap_or_else(|| {
                unpack_kernel(&cache);
                Self::in_root(&cache).unwrap()
            })
        })
    }

    fn in_root(root: &Path) -> Option<Self> {
        let images = fs::read_dir(root.join("boot")).ok()?.filter_map(Result::ok);
        images.map(|entry| entry.file_name().into_string().unwrap()).find_map(|name| {
            let version = name.strip_prefix("vmlinuz-")?.to_owned();
            let modules = root.join("lib/modules").join(&version);
            modules.join("modules.dep").exists().then(|| Self {
                image: root.join("boot").join(&name),
                root: root.to_owned(),
                version,
            })
        })
    }

    /// The module files that make up WireGuard and veth, in the order of their loading.
    fn modules(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for module in ["wireguard", "veth"] {
            let mut modprobe = Command::new("modprobe");
            modprobe.arg("-d").arg(&self.root).args([
                "-S",
                &self.version,
                "--show-depends",
                module,
            ]);
            let listed = stdout(&mut modprobe);
            // A module that is built in needs no file.
            let wanted = listed.lines().filter_map(|line| line.trim().strip_prefix("insmod "));
            for file in wanted.filter_map(|rest| rest.split(' ').next()).map(PathBuf::from) {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        files
    }
}

fn unpack_kernel(cache: &Path) {
    let _ = fs::remove_dir_all(cache);
    fs::create_dir_all(cache).unwrap();
    let depends = stdout(Command::new("apt-cache").args(["depends", KERNEL_PACKAGE]));
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .map(|rest| format!("linux-image-{rest}"))
        .expect("apt knows Debian's kernel: run apt-get update");
    run(Command::new("apt-get").args(["download", &package]).current_dir(cache));
    let archives = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    let archive = archives.into_iter().find(|path| path.extension().is_some_and(|e| e == "deb"));
    run(Command::new("dpkg-deb").arg("-x").arg(archive.unwrap()).arg(cache));
    let version = package.strip_prefix("linux-image-").unwrap();
    run(Command::new("depmod").arg("-b").arg(cache).arg(version));
}

/// Packs our binary, the tools, the modules and the script.
fn initramfs(scratch: &Scratch, kernel: &Kernel) -> PathBuf {
    let root = scratch.path("root");
    for dir in ["bin", "modules"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let meshctl = scratch.path("meshctl");
    run(Command::new("strip").arg("-o").arg(&meshctl).arg(MESHCTL));
    let mut programs = vec![(meshctl, "meshctl".to_owned())];
    programs.extend(PROGRAMS.map(|name| (which(name), name.to_owned())));
    let mut libraries = BTreeSet::new();
    for (path, name) in &programs {
        fs::copy(path, root.join("bin").join(name)).unwrap();
        libraries.extend(libraries_of(path));
    }
    fs::copy(which("busybox"), root.join("bin/busybox")).unwrap();
    for library in libraries {
        let target = root.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&library, target).unwrap();
    }
    let mut order = String::new();
    for module in kernel.modules() {
        let name = module.file_name().unwrap().to_str().unwrap().to_owned();
        fs::copy(&module, root.join("modules").join(&name)).unwrap();
        if module.extension().is_some_and(|extension| extension == "xz") {
            run(Command::new("xz").arg("-d").arg(root.join("modules").join(&name)));
        }
        order.push_str(name.trim_end_matches(".xz"));
        order.push('\n');
    }
    fs::write(root.join("modules/order"), order).unwrap();
    fs::write(root.join("secret"), "a secret of the guest only").unwrap();
    fs::set_permissions(root.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(root.join("init"), include_str!("guest/init.sh")).unwrap();
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755)).unwrap();
    let packed = scratch.path("initramfs");
    let pack = format!("find . | cpio -o -H newc --quiet | gzip -1 > {}", packed.display());
    run(Command::new("sh").args(["-c", &pack]).current_dir(&root));
    packed
}

/// The emulator, ended with the test.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the guest to its end and returns what it wrote on its console.
fn boot(kernel: &Kernel, initramfs: &Path) -> String {
    // Its emulated processor takes a whole core: tests that measure time go first.
    let mut qemu = Command::new("nice");
    qemu.args(["-n", "5", "qemu-system-x86_64"]);
    qemu.args(["-m", "512", "-nographic", "-no-reboot", "-nic", "none", "-accel", "tcg"])
        .args(["-append", "console=ttyS0 quiet panic=1"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut guest = Guest(qemu.spawn().expect("the package qemu-system-x86 is installed"));
    let mut console = guest.0.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        console.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let deadline = Instant::now() + GUEST_MAX;
    while guest.0.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(guest);
    reading.join().unwrap().unwrap()
}

fn libraries_of(program: &Path) -> Vec<PathBuf> {
    let listed = stdout(Command::new("ldd").arg(program));
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(PathBuf::from).collect()
}

fn which(program: &str) -> PathBuf {
    let found = stdout(Command::new("sh").args(["-c", &format!("command -v {program}")]));
    PathBuf::from(found.trim())
}

fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn run(command: &mut Command) {
    stdout(command);
}
