//! Letting hosts in: join tokens, and those that ask without one.

use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::api::{NodeRemoved, NodeView, RegisterRequest};
use knit_rpc::event::EventKind;
use knit_rpc::id::NodeId;
use knit_rpc::join::{
    JOIN_TTL_DEFAULT_SECS, JOIN_TTL_MAX_SECS, JoinClaim, JoinToken, MintedJoinToken, NewJoinToken,
};
use knit_rpc::message::Generation;
use knit_runtime::clock;
use knit_server_core::Node;
use knit_server_core::access::Actor;
use knit_server_core::admission::{self, Admission, Candidate, Standing, Token};
use knit_server_core::status::Asking;

use super::super::{App, AppError, World, bounds};
use super::{lowest_free, named};
use crate::nats_server::jwt;
use crate::store;
use crate::store::joining::StoredJoinToken;

/// Hosts that may ask at once; who asked longest ago gives way.
const ASKING_MAX: usize = 256;
/// A spent or expired token is said to have expired for this long, and then not to be known.
const EXPIRED_KEPT: Duration = Duration::from_hours(24);

impl App {
    /// Makes a token that lets one host in, once.
    pub async fn create_join_token(
        &self,
        actor: &Actor,
        new: NewJoinToken,
    ) -> Result<MintedJoinToken, AppError> {
        let secs = new.ttl.unwrap_or(JOIN_TTL_DEFAULT_SECS);
        let labels = new.labels.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
        let mut fields = bounds::label_problems(&labels.collect());
        if secs == 0 || secs > JOIN_TTL_MAX_SECS {
            fields.push(bounds::problem("ttl", "must be 1 second to 30 days"));
        }
        if new.wg_pubkey.as_ref().is_some_and(|key| !bounds::is_wg_key(key)) {
            fields.push(bounds::problem("wg_pubkey", "must be 44 characters of base64"));
        }
        if !fields.is_empty() {
            return Err(AppError::Fields { what: "join token", fields });
        }
        let identity = &self.identity;
        let token = JoinToken::new(identity.cluster.clone(), identity.public_key())
            .map_err(|error| AppError::Internal(Box::new(error)))?;
        let now = clock::now();
        let stored = StoredJoinToken {
            public_key: token.public_key(),
            labels: new.labels,
            wg_pubkey: new.wg_pubkey,
            created_by: actor.name.clone(),
            created_at: now,
            expires_at: now.plus(Duration::from_secs(secs)),
        };
        let mut write = self.store.begin().await?;
        let kept = u64::try_from(EXPIRED_KEPT.as_millis()).unwrap_or(u64::MAX);
        let long_ago = Timestamp::from_millis(now.as_millis().saturating_sub(kept));
        store::joining::forget_expired(&mut write, long_ago).await?;
        store::joining::put(&mut write, &stored).await?;
        store::commit(write).await?;
        tracing::info!(by = actor.name, "a join token was made");
        Ok(MintedJoinToken { token: token.expose(), expires_at: stored.expires_at })
    }

    /// Makes a join token worth nothing, by its public half.
    pub async fn revoke_join_token(&self, actor: &Actor, public_key: &str) -> Result<(), AppError> {
        let mut write = self.store.begin().await?;
        let was_there = store::joining::spend(&mut write, public_key).await?;
        store::commit(write).await?;
        if !was_there {
            return Err(AppError::NotFound(
                "no such join token waits to be spent: it was spent, revoked or has expired"
                    .to_owned(),
            ));
        }
        tracing::info!(by = actor.name, "a join token was revoked");
        Ok(())
    }

    /// Whether a host that registers is let in; the token that it spends, if any.
    pub(super) async fn admit(
        &self,
        world: &mut World,
        request: &RegisterRequest,
        now: Timestamp,
    ) -> Result<Option<StoredJoinToken>, AppError> {
        let stored = match &request.join {
            Some(proof) => self.store.join_token(&proof.token).await?,
            None => None,
        };
        let known = world.snapshot.nodes.get(&request.node);
        let standing = if known.is_some_and(|node| node.nkey == request.nkey) {
            Standing::Node
        } else if world.rejected.contains(&request.node) {
            Standing::Rejected
        } else if world.removed.contains_key(&request.node) {
            Standing::Removed
        } else {
            Standing::Stranger
        };
        let candidate = Candidate {
            standing,
            was_let_in_before: request.former.as_ref().is_some_and(|former| {
                jwt::is_node_user(&self.identity.account, &request.nkey, &request.node, former)
            }),
            token: request.join.as_ref().map(|_| judge(request, stored.as_ref(), now)),
        };
        match admission::decide(self.admission, candidate) {
            Admission::LetIn => Ok(None),
            Admission::Spend => Ok(stored),
            Admission::Refuse(refusal) => Err(AppError::Refused(refusal.to_string())),
            Admission::Ask => {
                self.note_asking(world, request, now);
                Err(AppError::Refused(format!(
                    "this host waits to be let in: `knit node approve {}` on any machine that is \
                     logged in, or a join token (`knit node token`, then `knit-agent join` here)",
                    request.name
                )))
            }
        }
    }

    fn note_asking(&self, world: &mut World, request: &RegisterRequest, now: Timestamp) {
        let asking = Asking {
            node: request.node.clone(),
            nkey: request.nkey.clone(),
            name: request.name.clone(),
            wg_pubkey: request.wg_pubkey.clone(),
            mesh_ip: request.mesh_ip,
            at: now,
        };
        let before = world.asking.insert(request.node.clone(), asking);
        if before.is_none_or(|before| before.nkey != request.nkey) {
            tracing::info!(node.id = %request.node, name = request.name, "a host asks to join");
            let (node, name) = (request.node.clone(), request.name.clone());
            let state = "pending".to_owned();
            self.feed.tell(now, EventKind::NodeChanged { node, name, state });
        }
        while world.asking.len() > ASKING_MAX {
            let first = world.asking.values().min_by_key(|one| one.at).map(|one| one.node.clone());
            first.and_then(|first| world.asking.remove(&first));
        }
    }

    /// Lets in a host that asks: it is a node from its next try on, within seconds.
    pub async fn approve_node(&self, actor: &Actor, text: &str) -> Result<NodeView, AppError> {
        let mut world = self.world().await;
        let asking = who_asks(&world, text)?;
        if world.snapshot.nodes.contains_key(&asking.node) {
            return Err(AppError::Conflict(format!(
                "node {} is registered with another key: remove it first",
                asking.node
            )));
        }
        let mut node = Node::new(asking.node.clone(), asking.nkey);
        node.number = lowest_free(&world.snapshot);
        node.facts.name = asking.name;
        node.facts.wg_pubkey = asking.wg_pubkey;
        node.facts.mesh_ip = Some(asking.mesh_ip);
        super::register::begin_anew(&world, &mut node);
        let mut write = self.store.begin().await?;
        store::nodes::put(&mut write, &node).await?;
        store::nodes::welcome_back(&mut write, &node.id).await?;
        store::joining::forgive(&mut write, &node.id).await?;
        store::commit(write).await?;
        tracing::info!(node.id = %node.id, name = node.name(), by = actor.name, "a host was let in");
        let id = node.id.clone();
        world.asking.remove(&id);
        world.rejected.remove(&id);
        world.removed.remove(&id);
        world.snapshot.nodes.insert(id.clone(), node);
        world.mark_all();
        drop(world);
        self.wake_planner.notify_one();
        self.node(id.as_str()).await
    }

    /// Keeps out a host that asks; or takes out a node, which without `force` must be silent and
    /// empty, and is then not asked about again.
    pub async fn reject_node(
        &self,
        actor: &Actor,
        text: &str,
        force: bool,
    ) -> Result<Option<NodeRemoved>, AppError> {
        let mut world = self.world().await;
        let asking = match who_asks(&world, text) {
            Ok(asking) => asking,
            Err(nobody) => {
                let Ok(id) = named(&world, text) else { return Err(nobody) };
                let nkey =
                    self.take_out(world, &id, force, Some(actor), Generation::default()).await?;
                return Ok(Some(self.until_cut_off(&nkey).await));
            }
        };
        let mut write = self.store.begin().await?;
        store::joining::reject(&mut write, &asking.node, &actor.name, clock::now()).await?;
        store::commit(write).await?;
        tracing::info!(node.id = %asking.node, by = actor.name, "a host was rejected");
        world.asking.remove(&asking.node);
        world.rejected.insert(asking.node);
        Ok(None)
    }
}

/// What there is to say of the token that a request shows a proof of.
fn judge(request: &RegisterRequest, stored: Option<&StoredJoinToken>, now: Timestamp) -> Token {
    let (Some(proof), Some(stored)) = (&request.join, stored) else { return Token::Unknown };
    let claim = JoinClaim {
        node: request.node.clone(),
        nkey: request.nkey.clone(),
        wg_pubkey: request.wg_pubkey.clone(),
    };
    if !proof.is_for(&claim) {
        Token::Misused
    } else if stored.expires_at <= now {
        Token::Expired
    } else if stored.wg_pubkey.as_ref().is_some_and(|key| *key != request.wg_pubkey) {
        Token::Bound
    } else {
        Token::Holds
    }
}

/// The host that a text names, by id or by a name that only one has.
fn who_asks(world: &World, text: &str) -> Result<Asking, AppError> {
    let by_id = NodeId::parse(text).ok().and_then(|id| world.asking.get(&id));
    if let Some(asking) = by_id {
        return Ok(asking.clone());
    }
    let mut found = world.asking.values().filter(|asking| asking.name == text);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only.clone()),
        (None, _) => Err(AppError::NotFound(format!(
            "no host named {text} asks to join: `knit node ls` shows those that do as pending"
        ))),
        (Some(_), Some(_)) => Err(AppError::Conflict(format!(
            "several hosts named {text} ask to join: say which by its id (`knit node ls -o wide`)"
        ))),
    }
}
