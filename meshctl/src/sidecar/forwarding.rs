//! What lets an introducer's kernel pass packets from peer to peer: forwarding for the mesh
//! interface alone, and rules of our own that hold it to the mesh.
//!
//! Invariant: nothing is ever forwarded from the mesh to elsewhere that was not before, and no
//! setting of the whole host is changed.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ipnet::{Ipv4Net, Ipv6Net};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const PROGRAM_MAX: Duration = Duration::from_secs(10);
/// Somebody may flush all rules, and Docker may start later; looking costs two processes.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const SYSCTL: &str = "/proc/sys/net";

/// The forwarding of one mesh interface.
pub(super) struct Forwarding {
    interface: String,
    mesh: Ipv4Net,
    mesh_v6: Ipv6Net,
    /// What was loaded last, and when it was last seen to be there.
    loaded: Option<(String, Instant)>,
}

/// What the host forwards anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Host {
    v4: bool,
    v6: bool,
}

impl Forwarding {
    pub(super) fn new(interface: &str, mesh: Ipv4Net, mesh_v6: Ipv6Net) -> Self {
        Self { interface: interface.to_owned(), mesh, mesh_v6, loaded: None }
    }

    /// Whether this kernel forwards IPv6 for one interface without making the host a router.
    pub(super) fn can_ipv6() -> bool {
        let all = PathBuf::from(format!("{SYSCTL}/ipv6/conf/all"));
        is_on(&all.join("forwarding")) || all.join("force_forwarding").exists()
    }

    /// Makes sure that packets from peer to peer pass; also when somebody flushed the rules.
    pub(super) async fn assert(&mut self) -> Result<()> {
        let host = Host {
            v4: is_on(&PathBuf::from(format!("{SYSCTL}/ipv4/ip_forward"))),
            v6: is_on(&PathBuf::from(format!("{SYSCTL}/ipv6/conf/all/forwarding"))),
        };
        let rules = self.rules(host);
        if !self.stands(&rules).await {
            // The rules first: nothing is forwarded without them.
            run("nft", &["-f", "-"], Some(&rules)).await.context(
                "the rules of an introducer cannot be loaded: install the package nftables, or leave --introducer out",
            )?;
            self.accept_in_docker_user().await;
            self.loaded = Some((rules, Instant::now()));
        }
        self.set("ipv4", "forwarding")?;
        if !host.v6 {
            // A kernel that has no such switch relays IPv4 alone.
            let _ = self.set("ipv6", "force_forwarding");
        }
        Ok(())
    }

    async fn stands(&mut self, rules: &str) -> bool {
        let Some((loaded, seen_at)) = &mut self.loaded else { return false };
        if loaded != rules {
            return false;
        }
        if seen_at.elapsed() < LOOK_EVERY {
            return true;
        }
        *seen_at = Instant::now();
        let table = table(&self.interface);
        let listed = run("nft", &["list", "table", "inet", &table], None).await;
        // A table that is there may have been emptied.
        let stands = listed.is_ok_and(|text| text.contains("drop"));
        if stands {
            self.accept_in_docker_user().await;
        }
        stands
    }

    /// Takes the rules away, also those that an earlier run left.
    pub(super) async fn remove(&self) {
        let table = table(&self.interface);
        // The table is what tells that the rest is ours: somebody else's forwarding stays.
        if run("nft", &["delete", "table", "inet", &table], None).await.is_err() {
            return;
        }
        while run("iptables", &self.docker_rule("-D"), None).await.is_ok() {}
        for (family, host, name) in
            [("ipv4", "forwarding", "forwarding"), ("ipv6", "forwarding", "force_forwarding")]
        {
            let all = PathBuf::from(format!("{SYSCTL}/{family}/conf/all/{host}"));
            if !is_on(&all) {
                let _ = std::fs::write(self.switch(family, name), "0");
            }
        }
    }

    fn set(&self, family: &str, name: &str) -> Result<()> {
        let path = self.switch(family, name);
        if is_on(&path) {
            return Ok(());
        }
        std::fs::write(&path, "1").with_context(|| {
            format!("{} cannot be switched on: an introducer needs it", path.display())
        })
    }

    fn switch(&self, family: &str, name: &str) -> PathBuf {
        PathBuf::from(format!("{SYSCTL}/{family}/conf/{}/{name}", self.interface))
    }

    /// Everything from the mesh to the mesh, by its sources; where the host forwards nothing itself,
    /// nothing else from the mesh. Peers share one interface: a redirect would tell them nothing.
    fn rules(&self, host: Host) -> String {
        let (name, table) = (&self.interface, table(&self.interface));
        let fence = |is_on: bool, family: &str| {
            if is_on {
                String::new()
            } else {
                format!(r#"iifname "{name}" oifname != "{name}" meta nfproto {family} drop;"#)
            }
        };
        format!(
            r#"add table inet {table}
delete table inet {table}
table inet {table} {{
  chain forward {{
    type filter hook forward priority filter - 5; policy accept;
    iifname "{name}" oifname "{name}" ip saddr {v4} accept
    iifname "{name}" oifname "{name}" ip6 saddr {v6} accept
    iifname "{name}" oifname "{name}" ct state established,related accept
    iifname "{name}" oifname "{name}" drop
    {fence_v4}
    {fence_v6}
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    oifname "{name}" icmp type redirect drop
  }}
}}
"#,
            v4 = self.mesh,
            v6 = self.mesh_v6,
            fence_v4 = fence(host.v4, "ipv4"),
            fence_v6 = fence(host.v6, "ipv6"),
        )
    }

    /// An accept in our table does not overrule Docker's policy: its chain for users must let peers
    /// pass. Without that chain (no Docker, or not yet) there is nothing to pass.
    async fn accept_in_docker_user(&self) {
        if run("iptables", &self.docker_rule("-C"), None).await.is_err() {
            let _ = run("iptables", &self.docker_rule("-I"), None).await;
        }
    }

    fn docker_rule(&self, verb: &'static str) -> Vec<String> {
        let name = &self.interface;
        let mesh = self.mesh.to_string();
        let rule =
            ["-w", "5", verb, "DOCKER-USER", "-i", name, "-o", name, "-s", &mesh, "-j", "ACCEPT"];
        rule.into_iter().map(str::to_owned).collect()
    }
}

/// Two meshes of one host do not share a table.
fn table(interface: &str) -> String {
    format!("knit_mesh_{}", interface.replace('-', "_"))
}

fn is_on(path: &std::path::Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

/// What a program prints; its complaint when it fails.
async fn run(
    program: &str,
    arguments: &[impl AsRef<std::ffi::OsStr>],
    input: Option<&str>,
) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A program that refuses early closes its end; its words say why.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = tokio::time::timeout(PROGRAM_MAX, child.wait_with_output()).await??;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_host_forwards_nothing_the_mesh_is_fenced_in() {
        let forwarding = Forwarding::new(
            "wg-0",
            "10.45.0.0/16".parse().unwrap(),
            "fd74:d276:7b07:cdc9::/64".parse().unwrap(),
        );
        let fences = |v4, v6| {
            let rules = forwarding.rules(Host { v4, v6 });
            assert!(rules.contains("table inet knit_mesh_wg_0 {"), "{rules}");
            assert!(
                rules.contains(r#"iifname "wg-0" oifname "wg-0" ip saddr 10.45.0.0/16 accept"#)
            );
            ["ipv4", "ipv6"].map(|family| rules.contains(&format!("meta nfproto {family} drop")))
        };
        assert_eq!(fences(false, false), [true, true]);
        assert_eq!(fences(true, false), [false, true]);
        assert_eq!(fences(true, true), [false, false]);
    }
}
