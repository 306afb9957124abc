//! Registering: who a node is, and what it may do.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::Ipv4Net;
use knit_rpc::Timestamp;
use knit_rpc::api::{RegisterRequest, RegisterResponse};
use knit_rpc::audit::AuditFact;
use knit_rpc::signed::{self, Context};
use knit_runtime::clock;
use knit_server_core::liveness::Life;
use knit_server_core::revocation;
use knit_server_core::subnets::{self, Surroundings};
use knit_server_core::{Node, Snapshot};
use knit_server_core::{adoption, assignment};

use super::super::{App, AppError, World, bounds};
use super::{lowest_free, note_life, notice_forgotten, put};
use crate::nats_server::jwt;
use crate::store;

/// How far a node's clock may be off, and how long a request can be played again.
const CLOCK_SKEW_MAX: Duration = Duration::from_mins(10);
/// How long a node's NATS token holds.
pub const TOKEN_LIFE: Duration = Duration::from_hours(24);
/// Prefix length of a mesh's subnet.
const MESH_PREFIX: u8 = 16;

impl App {
    /// Registers a node, or renews its token; the answer is signed.
    pub async fn register(&self, message: &[u8]) -> Result<Vec<u8>, AppError> {
        let request = open(message)?;
        let now = clock::now();
        self.check(&request, now)?;
        let Some(nats_url) = self.nats_url.borrow().clone() else {
            return Err(AppError::NotYet(
                "the server waits for its own mesh address; try again in a moment".to_owned(),
            ));
        };
        let mut world = self.world().await;
        let was_node = world.snapshot.nodes.contains_key(&request.node);
        let node = self.take_in(&mut world, &request, now).await?;
        let issued_at = revocation::second(world.revocations.get(&node.nkey), now);
        drop(world);
        if !was_node {
            self.note(joined(&request, now)).await;
        }
        self.wake_planner.notify_one();
        if node.adopting {
            self.wake_roll_call.notify_one();
        }
        self.answer(&request, &node, nats_url, now, issued_at)
    }

    fn check(&self, request: &RegisterRequest, now: Timestamp) -> Result<(), AppError> {
        let problems = bounds::problems(request);
        if !problems.is_empty() {
            return Err(AppError::Registration(problems));
        }
        let skew = now.since(request.at).max(request.at.since(now));
        if skew > CLOCK_SKEW_MAX {
            return Err(AppError::Refused(format!(
                "the node's clock is {} s off this server's; at most {} s are allowed: set the \
                 clocks",
                skew.as_secs(),
                CLOCK_SKEW_MAX.as_secs()
            )));
        }
        match &request.cluster {
            Some(cluster) if *cluster != self.identity.cluster => Err(AppError::Conflict(format!(
                "node {} belongs to cluster {cluster}, and this server is of cluster {}: point \
                     the agent at its own server, or remove its state directory to join this one",
                request.node, self.identity.cluster
            ))),
            _ => Ok(()),
        }
    }

    async fn take_in(
        &self,
        world: &mut World,
        request: &RegisterRequest,
        now: Timestamp,
    ) -> Result<Node, AppError> {
        let spent = self.admit(world, request, now).await?;
        let known = world.snapshot.nodes.get(&request.node).cloned();
        let is_new = known.is_none();
        let mut node = known.unwrap_or_else(|| new_node(world, request));
        if node.nkey.is_empty() {
            node.nkey.clone_from(&request.nkey);
        }
        if node.nkey != request.nkey {
            return Err(AppError::Conflict(format!(
                "node {} is registered with another key: two hosts claim one node id, or the \
                 agent's key was replaced; remove the agent's state directory to join as a new node",
                request.node
            )));
        }
        check_newer(world.registered.get(&request.node).copied(), request)?;
        if !adoption::is_believable(world.snapshot.epoch, request.applied) {
            return Err(AppError::Registration(vec![bounds::problem(
                "applied",
                "must be a generation that this cluster's server can have sent; remove the \
                 agent's state directory to join as a new node",
            )]));
        }
        node.facts.name.clone_from(&request.name);
        node.facts.wg_pubkey.clone_from(&request.wg_pubkey);
        node.facts.mesh_ip = Some(request.mesh_ip);
        node.facts.labels.clone_from(&request.labels);
        let given = spent.iter().flat_map(|token| token.labels.clone());
        node.label_changes.extend(given.map(|(key, value)| (key, Some(value))));
        let life = Life { boot: request.boot.clone(), agent_start: request.agent_start };
        note_life(self, &mut node, life, now);
        node.subnet = Some(self.subnet_for(&world.snapshot, request, &node)?);
        let sealed_to = node.sealing_key.take();
        node.sealing_key.clone_from(&request.sealing_key);
        if sealed_to.is_some() && sealed_to != node.sealing_key {
            // What was sealed to the former key is of no use to it: all is sent anew.
            node.generation = assignment::next(node.generation, world.snapshot.epoch);
        }
        let epoch = notice_forgotten(&world.snapshot, &mut node, request.applied);
        let mut write = self.store.begin().await?;
        put(&mut write, &node, epoch).await?;
        store::nodes::welcome_back(&mut write, &node.id).await?;
        store::joining::forgive(&mut write, &node.id).await?;
        if let Some(token) = &spent {
            store::joining::spend(&mut write, &token.public_key).await?;
        }
        store::commit(write).await?;
        world.removed.remove(&node.id);
        world.asking.remove(&node.id);
        world.rejected.remove(&node.id);
        if is_new {
            tracing::info!(node.id = %node.id, name = node.name(), "a node joined");
        }
        world.snapshot.epoch = epoch.unwrap_or(world.snapshot.epoch);
        world.snapshot.nodes.insert(node.id.clone(), node.clone());
        world.registered.insert(node.id.clone(), request.at);
        world.mark_all();
        Ok(node)
    }

    fn subnet_for(
        &self,
        snapshot: &Snapshot,
        request: &RegisterRequest,
        node: &Node,
    ) -> Result<Ipv4Net, AppError> {
        let mesh = Ipv4Net::new(request.mesh_ip, MESH_PREFIX).ok().map(|net| net.trunc());
        let taken: BTreeSet<Ipv4Net> = snapshot
            .nodes
            .values()
            .filter(|other| other.id != node.id)
            .filter_map(|other| other.subnet)
            .collect();
        let surroundings = Surroundings {
            avoid: request.host_networks.iter().copied().chain(mesh).collect(),
            taken,
        };
        let own = node.subnet.or(request.subnet);
        subnets::allot(self.container_subnet, own, &surroundings).ok_or_else(|| {
            AppError::Conflict(format!(
                "no container subnet is left in {} for node {}: start the server with a larger \
                 --container-subnet",
                self.container_subnet, request.node
            ))
        })
    }

    fn answer(
        &self,
        request: &RegisterRequest,
        node: &Node,
        nats_url: String,
        now: Timestamp,
        issued_at: u64,
    ) -> Result<Vec<u8>, AppError> {
        let internal = |error: Box<dyn std::error::Error + Send + Sync>| AppError::Internal(error);
        let expires = now.plus(TOKEN_LIFE);
        let user_jwt = jwt::node_user(
            &self.identity.account,
            &request.nkey,
            &request.node,
            issued_at,
            expires.as_millis() / 1000,
        )
        .map_err(|error| internal(Box::new(error)))?;
        let response = RegisterResponse {
            cluster: self.identity.cluster.clone(),
            node: request.node.clone(),
            nonce: request.nonce.clone(),
            server_key: self.identity.public_key(),
            nats_url,
            nats_ca: self.nats_ca.borrow().clone(),
            user_jwt,
            expires,
            subnet: node.subnet.unwrap_or(self.container_subnet),
            adopt: node.adopting,
        };
        signed::sign(&self.identity.server, Context::Registered, &response)
            .map_err(|error| internal(Box::new(error)))
    }
}

/// Opens a request that is signed by the key that it names.
pub(super) fn open(message: &[u8]) -> Result<RegisterRequest, AppError> {
    let claim: RegisterRequest =
        signed::peek(message).map_err(|error| AppError::Refused(error.to_string()))?;
    if !bounds::is_node_key(&claim.nkey) {
        return Err(AppError::Registration(vec![bounds::problem(
            "nkey",
            "must be a user's public nkey (U…)",
        )]));
    }
    signed::verify(&claim.nkey, Context::Register, message)
        .map_err(|error| AppError::Refused(error.to_string()))
}

fn joined(request: &RegisterRequest, now: Timestamp) -> AuditFact {
    let how = match &request.join {
        Some(proof) => format!("by join token {}", proof.token),
        None => String::new(),
    };
    AuditFact {
        at: now,
        actor: format!("host {} ({})", request.name, request.node),
        origin: request.mesh_ip.to_string(),
        action: "joined".to_owned(),
        subject: how,
        status: 200,
        request_id: String::new(),
    }
}

/// A node that is not known. One that was removed goes on above the generation of its last, empty
/// assignment, so that it is neither taken in nor left with what it ran.
fn new_node(world: &World, request: &RegisterRequest) -> Node {
    let mut node = Node::new(request.node.clone(), request.nkey.clone());
    node.number = lowest_free(&world.snapshot);
    begin_anew(world, &mut node);
    node
}

/// One that was removed goes on above the generation of its last, empty assignment.
pub(super) fn begin_anew(world: &World, node: &mut Node) {
    if let Some(last) = world.removed.get(&node.id) {
        node.published = *last;
        node.generation = assignment::next(*last, world.snapshot.epoch);
    }
}

/// Refuses a request that is not later than the last one that was accepted of its node: it may
/// be played again. A restarted server forgets the last one; then [`CLOCK_SKEW_MAX`] bounds it.
fn check_newer(last: Option<Timestamp>, request: &RegisterRequest) -> Result<(), AppError> {
    let Some(last) = last.filter(|last| request.at <= *last) else { return Ok(()) };
    Err(AppError::Conflict(format!(
        "node {} has registered with a request of the same time or later already, so this one may \
         be played again: try again; if the node's clock was set back, a try is accepted in {} s",
        request.node,
        last.since(request.at).as_secs() + 1
    )))
}
