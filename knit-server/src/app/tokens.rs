//! API tokens: whose they are, and making and revoking them.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::access::{MintedToken, NewToken, TOKEN_TTL_MAX_SECS, Token, TokenView};
use knit_rpc::access::{Role, Scope};
use knit_rpc::id::{IdError, ProjectName, TokenId};
use knit_runtime::clock;
use knit_server_core::access::{Action, Actor, Resource, allowed};

use super::bounds::problem;
use super::{App, AppError};
use crate::store::tokens::StoredToken;
use crate::store::{self, Store, StoreError};

const NAME_CHARS_MAX: usize = 63;
const TOKENS_MAX: usize = 1000;
/// A token's last use is stored to this.
const USE_NOTED_EVERY: Duration = Duration::from_mins(1);

/// The tokens that are worth something, as the store has them.
#[derive(Default)]
pub struct Tokens {
    held: RwLock<BTreeMap<TokenId, StoredToken>>,
    /// Held while store and memory change together.
    changing: tokio::sync::Mutex<()>,
}

/// Whom a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    Known(Actor),
    /// It was right once.
    Expired,
    Unknown,
}

impl Tokens {
    pub(super) fn new(tokens: BTreeMap<TokenId, StoredToken>) -> Self {
        Self { held: RwLock::new(tokens), ..Self::default() }
    }

    /// Held while the tokens do not change.
    pub(super) async fn changing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// The ids of those that hold for a project by its name.
    pub(super) fn naming(&self, project: &ProjectName) -> Vec<String> {
        let held = self.held();
        let names = |view: &&TokenView| {
            view.projects.as_ref().is_some_and(|projects| projects.contains(project))
        };
        held.values().map(|token| &token.view).filter(names).map(|v| v.id.to_string()).collect()
    }

    /// For whom a token stands, while it does.
    pub(super) fn actor_of(&self, id: &TokenId, now: Timestamp) -> Option<Actor> {
        let view = self.get(id)?.view;
        view.expires_at.is_none_or(|at| at > now).then(|| actor(view))
    }

    fn get(&self, id: &TokenId) -> Option<StoredToken> {
        self.held().get(id).cloned()
    }

    fn held(&self) -> RwLockReadGuard<'_, BTreeMap<TokenId, StoredToken>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<TokenId, StoredToken>) -> T) -> T {
        change(&mut self.held.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl App {
    /// Says whose a token is, and notes that it was used.
    pub async fn holder(&self, token: &Token) -> Result<Holder, StoreError> {
        let now = clock::now();
        let found = match self.tokens.get(token.id()) {
            None => self.look_again(token.id()).await?,
            found => found,
        };
        let Some(StoredToken { view, digest }) = found else { return Ok(Holder::Unknown) };
        if !is_same(&digest, &token.digest()) {
            return Ok(Holder::Unknown);
        }
        if view.expires_at.is_some_and(|at| at <= now) {
            return Ok(Holder::Expired);
        }
        if view.last_used_at.is_none_or(|at| now.since(at) >= USE_NOTED_EVERY) {
            self.note_use(&view.id, now).await;
        }
        Ok(Holder::Known(actor(view)))
    }

    /// Looks in the store: `knit-server init` may have made it beside the running server.
    async fn look_again(&self, id: &TokenId) -> Result<Option<StoredToken>, StoreError> {
        let _changing = self.tokens.changing.lock().await;
        let stored = self.store.tokens().await?;
        self.tokens.change(|tokens| *tokens = stored);
        Ok(self.tokens.get(id))
    }

    async fn note_use(&self, id: &TokenId, now: Timestamp) {
        self.tokens.change(|tokens| {
            if let Some(token) = tokens.get_mut(id) {
                token.view.last_used_at = Some(now);
            }
        });
        let noted = async {
            let mut write = self.store.begin().await?;
            store::tokens::used(&mut write, id, now).await?;
            store::commit(write).await
        };
        if let Err(error) = noted.await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, token.id = %id, "that a token was used could not be stored");
        }
    }

    /// The tokens that `actor` may manage, the oldest first.
    pub fn list_tokens(&self, actor: &Actor) -> Vec<TokenView> {
        let held = self.tokens.held();
        let may = |view: &&TokenView| {
            allowed(actor, Action::ManageTokens, Resource::Token(&scope(view))).is_ok()
        };
        let mut views: Vec<TokenView> =
            held.values().map(|token| &token.view).filter(may).cloned().collect();
        views.sort_by_key(|view| (view.created_at, view.id.clone()));
        views
    }

    /// Makes a token. Its secret is in the answer and nowhere else.
    pub async fn create_token(
        &self,
        actor: &Actor,
        new: NewToken,
    ) -> Result<MintedToken, AppError> {
        allowed(actor, Action::ManageTokens, Resource::Token(&new.scope()))
            .map_err(|denied| AppError::Refused(denied.to_string()))?;
        let world = self.world().await;
        for project in new.projects.iter().flatten() {
            let missing = |problem| AppError::Fields { what: "token", fields: vec![problem] };
            world.check_project(project).map_err(missing)?;
        }
        let _changing = self.tokens.changing().await;
        if self.tokens.held().len() >= TOKENS_MAX {
            let message = format!("there are {TOKENS_MAX} tokens already: revoke some");
            return Err(AppError::Conflict(message));
        }
        let (stored, token) = mint(&self.store, new, &actor.name).await?;
        let view = stored.view.clone();
        self.tokens.change(|tokens| tokens.insert(view.id.clone(), stored));
        tracing::info!(token.id = %view.id, by = actor.name, "a token was made");
        Ok(MintedToken { token: token.expose().to_owned(), view })
    }

    /// Revokes a token at once, by its id.
    pub async fn revoke_token(&self, actor: &Actor, id: &str) -> Result<(), AppError> {
        let none = || AppError::NotFound(format!("there is no token {id}"));
        let id = TokenId::parse(id).map_err(|_: IdError| none())?;
        let _changing = self.tokens.changing.lock().await;
        let token = self.tokens.get(&id).ok_or_else(none)?;
        allowed(actor, Action::ManageTokens, Resource::Token(&scope(&token.view)))
            .map_err(|denied| AppError::Refused(denied.to_string()))?;
        let mut write = self.store.begin().await?;
        store::tokens::remove(&mut write, &id).await?;
        store::commit(write).await?;
        self.tokens.change(|tokens| tokens.remove(&id));
        self.sessions.forget_token(&id);
        tracing::info!(token.id = %id, by = actor.name, "a token was revoked");
        Ok(())
    }
}

/// Makes the first token of a cluster that has none; `None` when there is one.
pub async fn first_token(store: &Store) -> Result<Option<Token>, AppError> {
    if !store.tokens().await?.is_empty() {
        return Ok(None);
    }
    let new = NewToken { name: "admin".to_owned(), role: Role::Admin, projects: None, ttl: None };
    Ok(Some(mint(store, new, "knit-server init").await?.1))
}

async fn mint(store: &Store, new: NewToken, by: &str) -> Result<(StoredToken, Token), AppError> {
    let fields = problems(&new);
    if !fields.is_empty() {
        return Err(AppError::Fields { what: "token", fields });
    }
    let internal = |error: getrandom::Error| AppError::Internal(error.to_string().into());
    let (mut id, mut random) = ([0; 4], [0; knit_rpc::access::TOKEN_BYTES]);
    getrandom::fill(&mut id).map_err(internal)?;
    getrandom::fill(&mut random).map_err(internal)?;
    let token = Token::new(TokenId::from_bytes(id), random);
    let now = clock::now();
    let view = TokenView {
        id: token.id().clone(),
        name: new.name,
        role: new.role,
        projects: new.projects,
        created_by: by.to_owned(),
        created_at: now,
        expires_at: new.ttl.map(|secs| now.plus(Duration::from_secs(secs))),
        last_used_at: None,
    };
    let stored = StoredToken { view, digest: token.digest() };
    let mut write = store.begin().await?;
    store::tokens::put(&mut write, &stored).await?;
    store::commit(write).await?;
    Ok((stored, token))
}

fn problems(new: &NewToken) -> Vec<knit_rpc::api::FieldProblem> {
    let mut problems = Vec::new();
    let is_printable = new.name.chars().all(|char| !char.is_control());
    if new.name.is_empty() || new.name.chars().count() > NAME_CHARS_MAX || !is_printable {
        problems.push(problem("name", "must be 1 to 63 printable characters"));
    }
    if new.ttl.is_some_and(|secs| secs == 0 || secs > TOKEN_TTL_MAX_SECS) {
        problems.push(problem("ttl", "must be 1 second to 10 years"));
    }
    if new.projects.as_ref().is_some_and(std::collections::BTreeSet::is_empty) {
        problems.push(problem("projects", "must name one project, or be left out for all"));
    }
    problems
}

fn scope(view: &TokenView) -> Scope {
    Scope::of(view.projects.clone())
}

fn actor(view: TokenView) -> Actor {
    let name = format!("token {} ({})", view.name, view.id);
    Actor { name, role: view.role, scope: Scope::of(view.projects) }
}

/// Compares without telling by its time where two digests begin to differ.
fn is_same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
