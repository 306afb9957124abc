//! Where a dev cluster keeps what: names, directories, addresses. Pure.
//!
//! ```text
//! run   (sockets, pids, logs)     data  (Docker's and the programs' state)
//!  ├ state.json lock control.sock  ├ .knit-dev  secret
//!  ├ logs/node-1-agent.log         └ 1/{docker,containerd,mesh,agent,server}
//!  └ 1/{docker.sock,mesh.sock,…}
//! ```
//!
//! Invariant: every name of an instance begins with its prefix, and two instances share no name.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Nodes of one dev cluster, at most.
pub(crate) const NODES_MAX: u8 = 16;
/// The bridge, inside the hub's namespace.
pub(crate) const BRIDGE: &str = "knitdev0";
/// The file that says a data directory is ours.
pub(crate) const MARKER: &str = ".knit-dev";
/// Mesh interface inside a node's namespace.
pub(crate) const NODE_INTERFACE: &str = "wg0";
/// Mesh interface on the host itself, when there are no namespaces.
pub(crate) const HOST_INTERFACE: &str = "knitdev0";
/// Networks under the nodes: only inside namespaces, so they clash with nothing of the host.
const UNDERLAY: [u8; 3] = [172, 31, 255];
/// Prefix length of the underlay.
pub(crate) const UNDERLAY_PREFIX: u8 = 24;
/// The kernel's limit on a Unix socket's path is 107 bytes; ours add up to 30.
const RUN_DIR_BYTES_MAX: usize = 70;

/// Which dev cluster: several can run at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance(Option<String>);

/// The names and places of one dev cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Begins every name: `knit-dev`, or `knit-dev-NAME`.
    pub(crate) prefix: String,
    pub(crate) run: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) logs: PathBuf,
}

/// Why a dev cluster cannot be called or put so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("`{0}` is no name for a dev cluster: use up to 24 lower-case letters, digits and `-`")]
    Instance(String),
    #[error("{} is too long: sockets below it need a path of at most 107 bytes, so give --dir a path of at most {RUN_DIR_BYTES_MAX}", .0.display())]
    TooLong(PathBuf),
    #[error("{} is not absolute", .0.display())]
    Relative(PathBuf),
}

impl Instance {
    pub(crate) fn parse(name: Option<&str>) -> Result<Self, LayoutError> {
        let Some(name) = name else { return Ok(Self(None)) };
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 24 || !name.chars().all(letter) || name.starts_with('-')
        {
            return Err(LayoutError::Instance(name.to_owned()));
        }
        Ok(Self(Some(name.to_owned())))
    }

    fn prefix(&self) -> String {
        match &self.0 {
            None => "knit-dev".to_owned(),
            Some(name) => format!("knit-dev-{name}"),
        }
    }
}

impl Layout {
    /// The layout of an instance, below `dir` if one is given.
    pub(crate) fn new(instance: &Instance, dir: Option<&Path>) -> Result<Self, LayoutError> {
        let prefix = instance.prefix();
        let (run, data) = match dir {
            Some(dir) if dir.is_relative() => return Err(LayoutError::Relative(dir.to_owned())),
            Some(dir) => (dir.join("run"), dir.join("data")),
            None => (Path::new("/run").join(&prefix), Path::new("/var/lib").join(&prefix)),
        };
        if run.as_os_str().len() > RUN_DIR_BYTES_MAX {
            return Err(LayoutError::TooLong(run));
        }
        Ok(Self { prefix, logs: run.join("logs"), run, data })
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.run.join("state.json")
    }

    pub(crate) fn lock_file(&self) -> PathBuf {
        self.run.join("lock")
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    pub(crate) fn secret_file(&self) -> PathBuf {
        self.data.join("secret")
    }

    pub(crate) fn hub_netns(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    pub(crate) fn node_netns(&self, number: u8) -> String {
        format!("{}-{number}", self.prefix)
    }

    /// Whether a namespace's name is one that this instance gives.
    pub(crate) fn owns_netns(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|rest| {
            rest == "hub"
                || rest.parse::<u8>().is_ok_and(|n| n <= NODES_MAX && n.to_string() == rest)
        })
    }

    /// Parent of all containers' control groups, as a path below a hierarchy's root.
    pub(crate) fn cgroup(&self) -> String {
        format!("/{}", self.prefix)
    }
}

/// Where `ip netns` keeps a namespace.
pub(crate) fn netns_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// A node's address under the mesh.
pub(crate) fn underlay_address(number: u8) -> Ipv4Addr {
    let [a, b, c] = UNDERLAY;
    Ipv4Addr::new(a, b, c, number)
}

/// The bridge's address.
pub(crate) fn hub_address() -> Ipv4Addr {
    underlay_address(254)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(name: Option<&str>) -> Layout {
        Layout::new(&Instance::parse(name).unwrap(), None).unwrap()
    }

    #[test]
    fn instances_share_no_name() {
        let (plain, named) = (layout(None), layout(Some("1")));
        assert_eq!(plain.run, Path::new("/run/knit-dev"));
        assert_eq!(named.data, Path::new("/var/lib/knit-dev-1"));
        assert_eq!(plain.node_netns(1), "knit-dev-1");
        assert!(plain.owns_netns("knit-dev-1") && plain.owns_netns("knit-dev-hub"));
        assert!(named.owns_netns("knit-dev-1-2"));
        for foreign in
            ["knit-dev-1-2", "knit-dev-1-hub", "knit-dev-01", "knit-dev-99", "knit-dev-x"]
        {
            assert!(!plain.owns_netns(foreign), "{foreign}");
        }
        assert!(!named.owns_netns("knit-dev-1"));
    }

    #[test]
    fn bad_names_and_places_are_refused() {
        for name in ["", "A", "a/b", "..", "-a", "a234567890123456789012345"] {
            assert!(Instance::parse(Some(name)).is_err(), "{name}");
        }
        let place = |dir: &str| Layout::new(&Instance(None), Some(Path::new(dir)));
        assert_eq!(place("here"), Err(LayoutError::Relative("here".into())));
        assert!(matches!(place(&format!("/{}", "x".repeat(90))), Err(LayoutError::TooLong(_))));
        assert_eq!(place("/tmp/x").unwrap().data, Path::new("/tmp/x/data"));
    }
}
