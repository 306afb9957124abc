//! An authority of the test's own, made with openssl.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Authority {
    dir: PathBuf,
    pub(crate) certificate: PathBuf,
}

/// A certificate and its key.
pub(crate) struct Certificate {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

impl Authority {
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        let certificate = dir.join("ca.pem");
        let subject = format!("/CN={name}");
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-days", "2", "-subj", &subject]).args(KEY);
        command.arg("-keyout").arg(dir.join("ca.key")).arg("-out").arg(&certificate);
        run(&mut command);
        Self { dir, certificate }
    }

    /// A certificate for a server at this address.
    pub(crate) fn sign(&self, address: Ipv4Addr) -> Certificate {
        let file = |end: &str| self.dir.join(format!("{address}.{end}"));
        let (cert, key, request, names) = (file("pem"), file("key"), file("csr"), file("names"));
        let mut command = Command::new("openssl");
        command.args(["req", "-subj", "/CN=server"]).args(KEY);
        run(command.arg("-keyout").arg(&key).arg("-out").arg(&request));
        std::fs::write(&names, format!("subjectAltName=IP:{address}\n")).expect("written");
        let mut command = Command::new("openssl");
        command.args(["x509", "-req", "-days", "2", "-CAcreateserial", "-CA"]);
        command.arg(&self.certificate).arg("-CAkey").arg(self.dir.join("ca.key"));
        command.arg("-in").arg(&request).arg("-extfile").arg(&names).arg("-out").arg(&cert);
        run(&mut command);
        Certificate { cert, key }
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
