//! Which keys of a manifest differ between two specs, and which of them need new containers.
//!
//! Keys that need new containers stand first, each group in the order of its type.

use super::{DeploymentSpec, InstanceSpec};

/// Compares field by field. Every field is named, so that a new one cannot be forgotten.
macro_rules! differing {
    ($type:ident, $old:expr, $new:expr, [$($field:ident: $key:literal),* $(,)?] $(, but $other:ident)?) => {{
        let $type { $($field: _,)* $($other: _,)? } = $old;
        let mut keys: Vec<String> = Vec::new();
        $(if $old.$field != $new.$field {
            keys.push($key.to_owned());
        })*
        keys
    }};
}

/// Top-level keys of the manifest that differ; equal specs have none.
pub fn changed(old: &DeploymentSpec, new: &DeploymentSpec) -> Vec<String> {
    let mut keys = recreates(old, new);
    keys.extend(differing!(
        DeploymentSpec,
        old,
        new,
        [
            name: "name",
            project: "project",
            mode: "mode",
            replicas: "replicas",
            node_selector: "node_selector",
            constraint: "where",
            spread: "spread",
            max_per_node: "max_per_node",
            on_node_loss: "on_node_loss",
            update: "update",
            health: "health",
            pull_policy: "pull_policy",
        ],
        but instance
    ));
    keys
}

/// Those of them that need new containers; none when every container can stay.
pub fn recreates(old: &DeploymentSpec, new: &DeploymentSpec) -> Vec<String> {
    let (old, new) = (&old.instance, &new.instance);
    differing!(
        InstanceSpec,
        old,
        new,
        [
            image: "image",
            registry: "registry",
            command: "command",
            args: "args",
            env: "env",
            ports: "ports",
            templates: "templates",
            secrets: "secrets",
            secret_versions: "secret_versions",
            secret_kib: "secret_kib",
            networks: "networks",
            log: "log",
            resources: "resources",
            volumes: "volumes",
            user: "user",
            working_dir: "working_dir",
            hostname: "hostname",
            labels: "labels",
            stop_signal: "stop_signal",
            stop_grace: "stop_grace",
            ulimits: "ulimits",
            sysctls: "sysctls",
            read_only: "read_only",
            tmpfs: "tmpfs",
            shm_size: "shm_size",
            init: "init",
            dns: "dns",
            extra_hosts: "extra_hosts",
            cap_drop: "cap_drop",
            cap_add: "cap_add",
            privileged: "privileged",
            host_mounts: "host_mounts",
        ]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DeploymentName;
    use crate::spec::{PullPolicy, Span};

    fn spec() -> DeploymentSpec {
        let instance = InstanceSpec { image: "app:1".to_owned(), ..InstanceSpec::default() };
        DeploymentSpec::new(DeploymentName::parse("web").unwrap(), instance)
    }

    #[test]
    fn equal_specs_differ_in_nothing() {
        assert!(changed(&spec(), &spec()).is_empty());
        assert!(recreates(&spec(), &spec()).is_empty());
    }

    #[test]
    fn what_needs_a_new_container_stands_first() {
        let (old, mut new) = (spec(), spec());
        new.replicas = 3;
        new.update.bake = Span::ZERO;
        new.pull_policy = PullPolicy::Always;
        assert_eq!(changed(&old, &new), ["replicas", "update", "pull_policy"]);
        assert!(recreates(&old, &new).is_empty());
        new.instance.image = "app:2".to_owned();
        new.instance.init = true;
        assert_eq!(changed(&old, &new), ["image", "init", "replicas", "update", "pull_policy"]);
        assert_eq!(recreates(&old, &new), ["image", "init"]);
    }

    #[test]
    fn containers_are_recreated_exactly_when_the_hash_changes() {
        let (old, mut new) = (spec(), spec());
        new.health.start_within = Span::from_secs(5);
        assert_eq!(old.instance.hash(), new.instance.hash());
        new.instance.user = Some("1000".to_owned());
        assert_ne!(old.instance.hash(), new.instance.hash());
        assert_eq!(recreates(&old, &new), ["user"]);
    }
}
