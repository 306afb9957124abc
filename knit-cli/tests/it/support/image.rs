//! The image that tests deploy, made on the spot.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Cluster, IMAGE};

/// What containers of tests call of busybox.
const APPLETS: [&str; 16] = [
    "sh", "httpd", "sleep", "cat", "nc", "true", "false", "touch", "rm", "echo", "test", "kill",
    "wget", "nslookup", "hostname", "yes",
];

impl Cluster {
    /// Imports the test image on host 1 and takes it to the others, so that its id is one.
    pub(crate) fn load_image(&self) {
        let dir = tempfile::tempdir().unwrap();
        let tar = image_tar(dir.path()).display().to_string();
        let image = dir.path().join("image.tar").display().to_string();
        self.on(1, &["docker", "import", "--change", "ENV PATH=/bin", &tar, IMAGE]);
        self.on(1, &["docker", "save", "-o", &image, IMAGE]);
        for node in self.nodes().skip(1) {
            self.on(node, &["docker", "load", "-i", &image]);
        }
    }
}

/// The test image's files as an archive, for `docker import --change "ENV PATH=/bin"`.
pub(crate) fn image_tar(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    build_page_server(&root.join("bin/page-server"));
    let tar = dir.join("root.tar");
    let (root, to) = (root.display().to_string(), tar.display().to_string());
    run(Command::new("tar").args(["-C", &root, "-cf", &to, "."]));
    tar
}

/// Builds it without any library that the image would lack.
fn build_page_server(program: &Path) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/page_server.rs");
    let flags =
        ["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols"];
    run(Command::new("rustc").args(flags).arg("-o").arg(program).arg(source));
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
