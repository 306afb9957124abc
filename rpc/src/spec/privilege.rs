//! What lets a container reach into its host: each takes a role that may deploy such things, and a
//! node whose policy allows it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::InstanceSpec;

/// A directory or file of the host's in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostMount {
    /// Absolute, and there already: nothing is made.
    #[schema(value_type = String)]
    pub host_path: PathBuf,
    /// Absolute path in the container.
    pub path: String,
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub read_only: bool,
}

/// One thing by which a container reaches into its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege<'a> {
    /// All capabilities and all devices.
    Privileged,
    /// The host's network with every socket on it.
    HostNetwork,
    /// A capability that containers do not have by themselves.
    Capability(&'a str),
    HostPath {
        path: &'a Path,
        read_only: bool,
    },
}

impl fmt::Display for Privilege<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privileged => f.write_str("privileged"),
            Self::HostNetwork => f.write_str("the host's network"),
            Self::Capability(name) => write!(f, "capability {name}"),
            Self::HostPath { path, read_only: true } => {
                write!(f, "host path {} (read-only)", path.display())
            }
            Self::HostPath { path, read_only: false } => {
                write!(f, "host path {}", path.display())
            }
        }
    }
}

impl InstanceSpec {
    /// All by which it reaches into its host; nothing for most.
    pub fn privileges(&self) -> impl Iterator<Item = Privilege<'_>> {
        let privileged = self.privileged.then_some(Privilege::Privileged);
        let network = self.uses_host_network().then_some(Privilege::HostNetwork);
        let capabilities = self.cap_add.iter().map(|name| Privilege::Capability(name));
        let paths = self.host_mounts.iter();
        let paths = paths.map(|mount| Privilege::HostPath {
            path: &mount.host_path,
            read_only: mount.read_only,
        });
        privileged.into_iter().chain(network).chain(capabilities).chain(paths)
    }
}

/// What a node lets containers have of it: nothing, unless its owner wrote so in the agent's
/// configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NodePolicy {
    /// Whether containers may have all capabilities and devices, which is being root on the node.
    pub privileged: bool,
    /// Whether containers may have the node's own network.
    pub host_network: bool,
    /// Capabilities that containers may be given, without `CAP_`; `ALL` allows all.
    pub cap_add: BTreeSet<String>,
    /// Directories or files of the node that containers may have, with all that is below.
    #[schema(value_type = Vec<String>)]
    pub host_paths: BTreeSet<PathBuf>,
    /// Those that they may only read.
    #[schema(value_type = Vec<String>)]
    pub host_paths_read_only: BTreeSet<PathBuf>,
}

impl NodePolicy {
    /// Says whether a container may have it here.
    pub fn allows(&self, privilege: Privilege<'_>) -> bool {
        match privilege {
            Privilege::Privileged => self.privileged,
            Privilege::HostNetwork => self.host_network,
            Privilege::Capability(name) => {
                self.cap_add.contains("ALL") || self.cap_add.contains(name)
            }
            Privilege::HostPath { path, read_only } => {
                let below = |allowed: &BTreeSet<PathBuf>| {
                    is_plain(path) && allowed.iter().any(|one| path.starts_with(one))
                };
                below(&self.host_paths) || (read_only && below(&self.host_paths_read_only))
            }
        }
    }

    /// The first thing of a spec that it does not allow.
    pub fn refuses<'s>(&self, spec: &'s InstanceSpec) -> Option<Privilege<'s>> {
        spec.privileges().find(|privilege| !self.allows(*privilege))
    }
}

/// Absolute and without `.` and `..`.
pub(super) fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str, read_only: bool) -> Privilege<'_> {
        Privilege::HostPath { path: Path::new(text), read_only }
    }

    #[test]
    fn nothing_is_allowed_unless_it_is_written() {
        let policy = NodePolicy::default();
        for privilege in [
            Privilege::Privileged,
            Privilege::HostNetwork,
            Privilege::Capability("NET_ADMIN"),
            path("/", true),
        ] {
            assert!(!policy.allows(privilege), "{privilege}");
        }
    }

    #[test]
    fn each_is_allowed_by_its_own_key_alone() {
        let policy = NodePolicy {
            cap_add: ["NET_ADMIN".to_owned()].into(),
            host_paths: ["/srv/media".into()].into(),
            host_paths_read_only: ["/var/log".into()].into(),
            ..NodePolicy::default()
        };
        for (privilege, is_allowed) in [
            (Privilege::Privileged, false),
            (Privilege::HostNetwork, false),
            (Privilege::Capability("NET_ADMIN"), true),
            (Privilege::Capability("SYS_ADMIN"), false),
            (Privilege::Capability("ALL"), false),
            (path("/srv/media", false), true),
            (path("/srv/media/films", true), true),
            (path("/srv/media2", true), false),
            (path("/srv", true), false),
            (path("/srv/media/../../etc", true), false),
            (path("srv/media", true), false),
            (path("/var/log/nginx", true), true),
            (path("/var/log/nginx", false), false),
        ] {
            assert_eq!(policy.allows(privilege), is_allowed, "{privilege}");
        }
        let all = NodePolicy { cap_add: ["ALL".to_owned()].into(), ..NodePolicy::default() };
        assert!(all.allows(Privilege::Capability("SYS_ADMIN")));
        assert!(!all.allows(Privilege::Privileged));
    }

    #[test]
    fn the_first_thing_that_is_not_allowed_is_named() {
        let spec = InstanceSpec {
            networks: vec!["host".to_owned()],
            cap_add: vec!["NET_ADMIN".to_owned()],
            ..InstanceSpec::default()
        };
        let policy = NodePolicy { host_network: true, ..NodePolicy::default() };
        assert_eq!(policy.refuses(&spec).unwrap().to_string(), "capability NET_ADMIN");
        assert_eq!(policy.refuses(&InstanceSpec::default()), None);
    }
}
