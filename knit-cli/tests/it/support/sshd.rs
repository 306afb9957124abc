//! A real sshd on loopback, and an ssh that knows it and nothing of the user's.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use knit_runtime::child::{Child, ChildSpec};
use tempfile::TempDir;

use super::cluster::runtime;
use super::wait_until;

pub(crate) struct Sshd {
    pub(crate) port: u16,
    dir: TempDir,
    _daemon: Child,
}

impl Sshd {
    /// Lets in root and `nobody`, by key.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Users whom sshd lets in read the keys that open their account.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for name in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f", &path(name)])
                .status();
            assert!(made.unwrap().success());
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n",
            path("host"),
            path("user.pub"),
        );
        std::fs::write(dir.path().join("sshd_config"), config).unwrap();
        let host_key = std::fs::read_to_string(path("host.pub")).unwrap();
        std::fs::write(path("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let spec =
            ChildSpec::new("sshd", "/usr/sbin/sshd").args(["-D", "-e", "-f", &path("sshd_config")]);
        let daemon = runtime().block_on(Child::spawn(spec)).unwrap();
        wait_until("sshd", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|e| e.to_string())
        });
        Self { port, dir, _daemon: daemon }
    }

    /// A program for `KNIT_SSH`: the system's ssh, which reads only the test's own files.
    pub(crate) fn client(&self, known_hosts: &str) -> PathBuf {
        ssh_client(self.dir.path(), known_hosts)
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

/// An ssh with the key `user` and the known hosts in `dir`.
pub(crate) fn ssh_client(dir: &std::path::Path, known_hosts: &str) -> PathBuf {
    let path = dir.join(format!("ssh-{known_hosts}"));
    let shown = dir.display();
    let text = format!(
        "#!/bin/sh\nexec ssh -F none -i {shown}/user -o BatchMode=yes -o IdentitiesOnly=yes \
         -o UserKnownHostsFile={shown}/{known_hosts} \"$@\"\n"
    );
    let written = dir.join(format!("{known_hosts}.sh"));
    std::fs::write(&written, text).unwrap();
    // Another process makes it: one that a thread of this one starts meanwhile would hold it open
    // for writing, and then nobody could run it.
    let made = Command::new("install").args(["-m", "755"]).args([&written, &path]).status();
    assert!(made.unwrap().success());
    path
}

/// Processes whose command line holds this text.
pub(crate) fn processes_with(text: &str) -> Vec<String> {
    let output = Command::new("ps").args(["-eo", "pid,args"]).stdin(Stdio::null()).output();
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    output.lines().filter(|line| line.contains(text)).map(ToOwned::to_owned).collect()
}
