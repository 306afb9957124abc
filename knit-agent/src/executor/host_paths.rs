//! The node's own files that a container is to have, with every link followed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use knit_rpc::spec::{HostMount, NodePolicy, Privilege};

use super::Failure;

/// The mounts with the paths that theirs lead to: where a link below an allowed directory leads
/// must be allowed as well.
pub(super) fn resolve(
    mounts: &[HostMount],
    policy: &NodePolicy,
) -> Result<Vec<HostMount>, Failure> {
    let failure = |message: String| Failure { message, permanent: true, unreachable: false };
    let policy = resolved(policy);
    let resolve = |mount: &HostMount| {
        let given = mount.host_path.display();
        let path = mount
            .host_path
            .canonicalize()
            .map_err(|error| failure(format!("host path {given} cannot be mounted: {error}")))?;
        let privilege = Privilege::HostPath { path: &path, read_only: mount.read_only };
        if !policy.allows(privilege) {
            return Err(failure(format!(
                "{given} leads to {privilege}, which this node's policy (agent.toml) refuses"
            )));
        }
        Ok(HostMount { host_path: path, ..mount.clone() })
    };
    mounts.iter().map(resolve).collect()
}

/// The policy with the links in its own paths followed, as in `/var/run`; what is not there allows
/// nothing.
fn resolved(policy: &NodePolicy) -> NodePolicy {
    let resolve = |paths: &BTreeSet<PathBuf>| {
        paths.iter().filter_map(|path| path.canonicalize().ok()).collect()
    };
    NodePolicy {
        host_paths: resolve(&policy.host_paths),
        host_paths_read_only: resolve(&policy.host_paths_read_only),
        ..policy.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(path: PathBuf) -> HostMount {
        HostMount { host_path: path, path: "/data".to_owned(), read_only: false }
    }

    #[test]
    fn a_link_leads_nowhere_that_is_not_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["real", "real/inner", "secret"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::os::unix::fs::symlink(at("real"), at("allowed")).unwrap();
        std::os::unix::fs::symlink(at("secret"), at("real/out")).unwrap();
        let policy = NodePolicy { host_paths: [at("allowed")].into(), ..NodePolicy::default() };
        let inner = resolve(&[mount(at("allowed/inner"))], &policy).unwrap();
        assert_eq!(inner[0].host_path, at("real/inner").canonicalize().unwrap());
        for (path, word) in [("allowed/out", "leads to"), ("allowed/none", "cannot be mounted")] {
            let failure = resolve(&[mount(at(path))], &policy).unwrap_err();
            assert!(failure.permanent && failure.message.contains(word), "{failure:?}");
        }
    }
}
