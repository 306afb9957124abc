//! Reads everything that a decision looks at.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use knit_agent_core::container::{self, LABEL_INSTANCE};
use knit_agent_core::network::NetworkPlan;
use knit_agent_core::observed::{Listener, Memory};
use knit_agent_core::publish::{self, Target};
use knit_agent_core::{Desired, Observed, Owner};
use knit_rpc::id::InstanceId;
use knit_rpc::spec::Protocol;
use tokio::time::timeout;

use super::Reconciler;
use crate::engine::EngineError;
use crate::host::{self, listeners};

/// A Docker that takes longer to list its containers does not work.
const READ_MAX: Duration = Duration::from_secs(10);
const INFO_EVERY: Duration = Duration::from_mins(1);
/// An image that was found here is taken to be here for this long.
const IMAGE_KNOWN: Duration = Duration::from_secs(5);

impl Reconciler {
    /// Reads Docker in full; on failure what was known before stays known.
    pub(super) async fn read(&mut self, owner: &Owner) {
        self.read_at = Some(Instant::now());
        self.troubles.engine = match self.read_engine(owner).await {
            Ok(()) => None,
            Err(error) => Some(error.to_string()),
        };
        if self.troubles.engine.is_some() {
            return;
        }
        let subnet = self.shared.registration.borrow().as_ref().map(|known| known.subnet);
        let plan = subnet.map(|subnet| NetworkPlan::own(owner, subnet));
        if let Some(plan) = plan.filter(|plan| !self.networks.iter().any(|one| plan.is(one))) {
            let made = within(READ_MAX, self.engine.ensure_network(&plan)).await;
            self.troubles.network = made.err().map(|error| {
                format!("the network \"{}\" cannot be made: {error}", container::NETWORK)
            });
        }
    }

    async fn read_engine(&mut self, owner: &Owner) -> Result<(), EngineError> {
        let due = self.asked_info_at.is_none_or(|at| at.elapsed() >= INFO_EVERY)
            || self.troubles.engine.is_some();
        if due {
            self.info = Some(within(READ_MAX, self.engine.info()).await?);
            self.asked_info_at = Some(Instant::now());
        }
        let asks_volumes = due || self.volumes_changed;
        let volumes = async {
            let asked = asks_volumes.then(|| self.engine.volumes(owner));
            match asked {
                Some(asked) => within(READ_MAX, asked).await.map(Some),
                None => Ok(None),
            }
        };
        let (containers, networks, volumes) = tokio::join!(
            within(READ_MAX, self.engine.list(owner)),
            within(READ_MAX, self.engine.networks()),
            volumes,
        );
        (self.containers, self.networks) = (Some(containers?), networks?);
        if let Some(volumes) = volumes? {
            self.volumes_changed = false;
            self.volumes.clone_from(&volumes);
            self.shared.volumes.send_if_modified(|known| {
                let changed = *known != volumes;
                *known = volumes;
                changed
            });
        }
        Ok(())
    }

    /// None before Docker was read for the first time.
    pub(super) async fn observe(
        &mut self,
        owner: &Owner,
        desired: Option<&Desired>,
    ) -> Option<Observed> {
        let containers = self.containers.clone()?;
        self.learn_published().await;
        let missing = missing(owner, desired, &containers);
        let images = if self.troubles.engine.is_none() {
            self.images(desired, &missing).await
        } else {
            BTreeSet::new()
        };
        let names_networks = desired.is_some_and(|desired| !desired.networks.is_empty());
        let mut observed = Observed {
            policy: self.shared.config.policy.clone(),
            images,
            listeners: ports_listened_on(desired, &missing),
            containers,
            networks: self.networks.clone(),
            volumes: self.volumes.clone(),
            routes: if names_networks { host::routes() } else { Vec::new() },
            files: self.files.list(),
            secrets: self.files.secrets.list(),
            published: self.published.clone().unwrap_or_default(),
            interfaces: host::addresses(&host::interfaces()),
            memory: Memory::default(),
            deaf: BTreeSet::new(),
        };
        let ours = super::ours(owner, &observed);
        if let Some(desired) = desired {
            let now = knit_runtime::clock::now();
            self.memory.probes.follow(desired, &ours, &observed.published, now);
        }
        observed.deaf = self.deaf(&publish::successors(desired, &ours, &observed)).await;
        observed.memory = self.memory.clone();
        Some(observed)
    }

    /// Which of those that are to take a port over do not accept connections yet.
    async fn deaf(&self, successors: &BTreeSet<Target>) -> BTreeSet<Target> {
        let asking = successors.iter().map(|target| async move {
            let accepts = self.engine.accepts(SocketAddrV4::new(target.address, target.port)).await;
            (!accepts).then_some(*target)
        });
        join_all(asking).await.into_iter().flatten().collect()
    }

    async fn images(
        &mut self,
        desired: Option<&Desired>,
        missing: &BTreeSet<InstanceId>,
    ) -> BTreeSet<String> {
        self.images.retain(|_, at| at.elapsed() < IMAGE_KNOWN);
        let wanted = desired.into_iter().flat_map(|desired| &desired.instances);
        let names: BTreeSet<String> = wanted
            .filter(|(id, _)| missing.contains(id))
            .map(|(_, wanted)| container::image(&wanted.spec))
            .collect();
        let unknown = names.iter().filter(|name| !self.images.contains_key(*name));
        let asking = unknown.map(|name| async {
            let found = within(READ_MAX, self.engine.has_image(name)).await.unwrap_or(false);
            found.then(|| (name.clone(), Instant::now()))
        });
        let found = join_all(asking).await;
        self.images.extend(found.into_iter().flatten());
        names.into_iter().filter(|name| self.images.contains_key(name)).collect()
    }
}

/// Wanted instances whose container is not up, or is to be replaced: only for these it matters what is in their way.
fn missing(
    owner: &Owner,
    desired: Option<&Desired>,
    containers: &[knit_agent_core::Container],
) -> BTreeSet<InstanceId> {
    let up: BTreeSet<&str> = containers
        .iter()
        .filter(|container| {
            container.state.is_up()
                && !container.is_cut_off()
                && container::Identity::of(container, owner).is_some()
        })
        .filter_map(|container| container.labels.get(LABEL_INSTANCE).map(String::as_str))
        .collect();
    let wanted = desired.into_iter().flat_map(|desired| desired.instances.keys());
    wanted.filter(|id| !up.contains(id.as_str())).cloned().collect()
}

fn ports_listened_on(desired: Option<&Desired>, missing: &BTreeSet<InstanceId>) -> Vec<Listener> {
    let wanted = desired.into_iter().flat_map(|desired| &desired.instances);
    let ports: BTreeSet<(Protocol, u16)> = wanted
        .filter(|(id, _)| missing.contains(id))
        .flat_map(|(_, wanted)| &wanted.spec.ports)
        .map(|port| (port.protocol, port.host_port))
        .collect();
    if ports.is_empty() { Vec::new() } else { listeners::on(&ports) }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    timeout(limit, call).await.unwrap_or_else(|_| {
        Err(EngineError::Unreachable {
            socket: "its socket".to_owned(),
            problem: format!("no answer within {} s", limit.as_secs()),
        })
    })
}
