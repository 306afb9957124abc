//! What a node needs to know to make one container.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Bytes, Cpus, HostMount, LogSpec, OnChange, PortSpec, SecretUse, Span, TemplateSpec,
    VolumeMount, hash, is_false,
};
use crate::id::{SecretName, SpecHash};

/// What a node needs to know to make one container. Whatever changes here needs a new container;
/// what can change without one stands in [`DeploymentSpec`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceSpec {
    /// For example `nginx:alpine` or `registry.example/app@sha256:…`.
    pub image: String,
    /// Registry that the image is pulled from when its name holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// Replaces the image's entrypoint. A manifest may call it `entrypoint` as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortSpec>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<TemplateSpec>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretUse>,
    /// The versions of those whose change takes new containers. The server fills them in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, u64>)]
    pub secret_versions: BTreeMap<SecretName, u64>,
    /// KiB that the secrets take on the wire, roughly, when they are large. The server fills it in.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub secret_kib: u32,
    /// Networks to join: Knit's own by name, else Docker's; the node's `knit` network when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    #[serde(default, skip_serializing_if = "LogSpec::is_default")]
    pub log: LogSpec,
    #[serde(default, skip_serializing_if = "Resources::is_default")]
    pub resources: Resources,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// Name or id, `USER[:GROUP]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// `{deployment}-{slot}` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Of the container; `knit.` is Knit's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Such as `SIGQUIT`; the image's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Time between the stop signal and SIGKILL, in whole seconds; 10 s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub stop_grace: Option<Span>,
    /// By name, such as `nofile`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Whether the container's root file system is mounted read-only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// Absolute paths, each with Docker's options after a colon if any: `/run:size=64m,mode=755`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<String>,
    /// Size of /dev/shm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub shm_size: Option<Bytes>,
    /// Whether an init reaps zombies and forwards signals.
    #[serde(default, skip_serializing_if = "is_false")]
    pub init: bool,
    /// Addresses of name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub dns: Vec<std::net::IpAddr>,
    /// Lines of /etc/hosts: name to address, or to `host-gateway`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_hosts: BTreeMap<String, String>,
    /// Capabilities to drop, without `CAP_`; `ALL` drops all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// Capabilities to add, without `CAP_`; `ALL` adds all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Whether it has all capabilities and devices: root in it is root on the node.
    #[serde(default, skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Directories and files of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_mounts: Vec<HostMount>,
}

impl InstanceSpec {
    /// Hash of all that the node would do differently.
    pub fn hash(&self) -> SpecHash {
        hash::of(self)
    }

    /// The image's full name: the registry goes before a name that holds none.
    pub fn image_reference(&self) -> String {
        let names_registry = self
            .image
            .split_once('/')
            .is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost");
        match self.registry.as_deref().map(|registry| registry.trim_end_matches('/')) {
            Some(registry) if !names_registry && !registry.is_empty() => {
                let host = registry.trim_start_matches("https://").trim_start_matches("http://");
                format!("{host}/{}", self.image)
            }
            _ => self.image.clone(),
        }
    }

    /// Every secret that its containers get.
    pub fn secret_names(&self) -> BTreeSet<SecretName> {
        let listed = self.secrets.iter().map(|secret| secret.name.clone());
        listed.chain(self.template_secrets()).collect()
    }

    /// Those whose change takes new containers: what is rendered is not rendered again.
    pub fn pinned_secrets(&self) -> BTreeSet<SecretName> {
        let listed = self.secrets.iter().filter(|one| one.on_change == OnChange::RollingRestart);
        listed.map(|secret| secret.name.clone()).chain(self.template_secrets()).collect()
    }

    fn template_secrets(&self) -> BTreeSet<SecretName> {
        self.templates.iter().flat_map(TemplateSpec::secrets).collect()
    }

    /// Whether the instance shares its host's network, so that nothing is mapped.
    pub fn uses_host_network(&self) -> bool {
        self.networks.iter().any(|network| network == "host")
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// What an instance takes of its node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resources {
    /// Reserved; gives the container its share when CPUs are short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub cpu: Option<Cpus>,
    /// Reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub memory: Option<Bytes>,
    /// Reserved on the file system that Docker stores on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub disk: Option<Bytes>,
    /// The container is killed above this; no ceiling when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub memory_max: Option<Bytes>,
}

impl Resources {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Bounds of a process; -1 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ulimit {
    pub soft: i64,
    pub hard: i64,
}
