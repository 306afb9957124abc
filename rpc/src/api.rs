//! REST bodies. Every path answers under `/v1` and without it.

mod deployments;
mod error;
mod networks;
mod nodes;
mod projects;
mod reasons;
mod registration;
mod registries;
mod rollouts;
mod secrets;
mod server;
mod volumes;

pub use deployments::{Accepted, DeploymentState, DeploymentView, InstanceView, Unplaced};
pub use error::{ErrorBody, FieldProblem};
pub use networks::NetworkView;
pub use nodes::{Availability, NodePatch, NodeRemoved, NodeState, NodeView, Reserved};
pub use projects::{NewProject, ProjectContents, ProjectView};
pub use reasons::{PlanView, SlotAction, SlotPlan, WhyNot, WhySlot, WhyView};
pub use registration::{RegisterRequest, RegisterResponse};
pub use registries::{
    DEFAULT_REGISTRY, NewRegistry, PullCredentials, PullRequest, PullResponse, RegistryTest,
    RegistryView,
};
pub use rollouts::{Cause, RevisionView, RollbackRequest, RolloutState, RolloutView, ScaleRequest};
pub use secrets::{NewSecret, SECRET_BYTES_MAX, SecretStored, SecretVersion, SecretView};
pub use server::{API_PORT, API_SOCKET, NATS_MONITOR_PORT, NATS_PORT, Ping, ServerIdentity};
pub use volumes::{VolumeState, VolumeView};
