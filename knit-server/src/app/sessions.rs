//! Browsers' sessions: opening, finding and closing them.
//!
//! ```text
//! token, or a provider's word ─> open ─> CookieSecret (cookie) ─> find ─> Actor, while it holds
//!                                          └ SHA-256 ─> store
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::access::Scope;
use knit_rpc::id::{ProjectName, TokenId};
use knit_runtime::clock;
use knit_server_core::access::Actor;
use knit_server_core::browser::is_over;
use sha2::{Digest as _, Sha256};

use super::{App, AppError};
use crate::store::sessions::{SessionDigest, SessionHolder, StoredSession};
use crate::store::{self, Store, StoreError};

/// Sessions at once: the one that was used longest ago makes room.
const SESSIONS_MAX: usize = 10_000;
/// A session's last use is stored to this.
const USE_NOTED_EVERY: Duration = Duration::from_mins(1);
const ID_BYTES: usize = 32;

/// What a cookie holds, of a session or of a form before there is one: a secret, which is stored
/// nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct CookieSecret(String);

impl CookieSecret {
    pub fn random() -> Result<Self, AppError> {
        let mut bytes = [0; ID_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|error| AppError::Internal(error.to_string().into()))?;
        Ok(Self(hex::encode(bytes)))
    }

    /// Reads what a cookie holds.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_id = text.len() == 2 * ID_BYTES && text.bytes().all(is_hex);
        is_id.then(|| Self(text.to_owned()))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What a form shows to prove that it was made for this cookie: it tells nothing of the secret.
    pub fn csrf(&self) -> String {
        hex::encode(Sha256::digest(format!("knit csrf {}", self.0)))
    }

    fn digest(&self) -> SessionDigest {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecret(…)")
    }
}

/// The sessions that are worth something, as the store has them.
pub struct Sessions {
    held: RwLock<BTreeMap<SessionDigest, StoredSession>>,
    /// Held while store and memory change together.
    changing: tokio::sync::Mutex<()>,
}

/// A session that holds.
#[derive(Debug, Clone)]
pub struct Session {
    pub actor: Actor,
    pub expires_at: Timestamp,
    /// Whether it ends with the token that it was opened with.
    pub is_by_token: bool,
}

type Held = BTreeMap<SessionDigest, StoredSession>;

impl Sessions {
    pub(super) async fn load(store: &Store) -> Result<Self, StoreError> {
        let held = RwLock::new(store.sessions().await?);
        Ok(Self { held, changing: tokio::sync::Mutex::default() })
    }

    /// Forgets those that were opened with a token; the store does so with the token.
    pub(super) fn forget_token(&self, id: &TokenId) {
        let is_of = |holder: &SessionHolder| matches!(holder, SessionHolder::Token(of) if of == id);
        self.change(|held| held.retain(|_, session| !is_of(&session.holder)));
    }

    /// Those of people whom a provider vouched for in a project among others named.
    pub(super) fn vouched_for(&self, project: &ProjectName) -> Vec<SessionDigest> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let names = |session: &&StoredSession| match &session.holder {
            SessionHolder::Vouched(by) => by.scope != Scope::All && by.scope.has(project),
            SessionHolder::Token(_) => false,
        };
        held.values().filter(names).map(|session| session.digest).collect()
    }

    pub(super) fn forget(&self, sessions: &[SessionDigest]) {
        self.change(|held| held.retain(|digest, _| !sessions.contains(digest)));
    }

    fn get(&self, digest: &SessionDigest) -> Option<StoredSession> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        change(&mut self.held.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those that are over at `now`, and the ones that make room for another.
    fn superfluous(&self, now: Timestamp) -> Vec<SessionDigest> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let over = |session: &&StoredSession| is_over(session.used_at, session.expires_at, now);
        let mut found: Vec<SessionDigest> = held.values().filter(over).map(|s| s.digest).collect();
        if held.len() - found.len() >= SESSIONS_MAX {
            let oldest = held.values().filter(|s| !over(s)).min_by_key(|session| session.used_at);
            found.extend(oldest.map(|session| session.digest));
        }
        found
    }
}

impl App {
    /// Opens a session that is over at `expires_at` at the latest. `None` when the token that it
    /// is for is worth nothing any more.
    pub async fn open_session(
        &self,
        holder: SessionHolder,
        expires_at: Timestamp,
    ) -> Result<Option<CookieSecret>, AppError> {
        let (id, now) = (CookieSecret::random()?, clock::now());
        // A token that is revoked meanwhile takes its sessions with it, this one too.
        let _tokens = self.tokens.changing().await;
        if self.session_actor(&holder, now).is_none() {
            return Ok(None);
        }
        let session = StoredSession {
            digest: id.digest(),
            holder,
            created_at: now,
            used_at: now,
            expires_at,
        };
        let _changing = self.sessions.changing.lock().await;
        let superfluous = self.sessions.superfluous(now);
        let mut write = self.store.begin().await?;
        for digest in &superfluous {
            store::sessions::remove(&mut write, digest).await?;
        }
        store::sessions::put(&mut write, &session).await?;
        store::commit(write).await?;
        self.sessions.change(|held| {
            held.retain(|digest, _| !superfluous.contains(digest));
            held.insert(session.digest, session);
        });
        Ok(Some(id))
    }

    /// The session of an id, while it holds; notes that it was used.
    pub async fn session(&self, id: &CookieSecret) -> Option<Session> {
        let now = clock::now();
        let digest = id.digest();
        let session = self.sessions.get(&digest)?;
        if is_over(session.used_at, session.expires_at, now) {
            return None;
        }
        let actor = self.session_actor(&session.holder, now)?;
        if now.since(session.used_at) >= USE_NOTED_EVERY {
            self.note_session_use(&digest, now).await;
        }
        let is_by_token = matches!(session.holder, SessionHolder::Token(_));
        Some(Session { actor, expires_at: session.expires_at, is_by_token })
    }

    /// Ends a session; what was none is none afterwards.
    pub async fn close_session(&self, id: &CookieSecret) -> Result<(), AppError> {
        let digest = id.digest();
        if self.sessions.get(&digest).is_none() {
            return Ok(());
        }
        let _changing = self.sessions.changing.lock().await;
        let mut write = self.store.begin().await?;
        store::sessions::remove(&mut write, &digest).await?;
        store::commit(write).await?;
        self.sessions.change(|held| held.remove(&digest));
        Ok(())
    }

    /// For whom a session stands now: a token's role and projects are what they are today.
    fn session_actor(&self, holder: &SessionHolder, now: Timestamp) -> Option<Actor> {
        match holder {
            SessionHolder::Token(id) => {
                let actor = self.tokens.actor_of(id, now)?;
                let name = format!("{} in a browser", actor.name);
                Some(Actor { name, ..actor })
            }
            SessionHolder::Vouched(by) => {
                let (name, scope) = (by.name.clone(), by.scope.clone());
                Some(Actor { name, role: by.role, scope })
            }
        }
    }

    async fn note_session_use(&self, digest: &SessionDigest, now: Timestamp) {
        self.sessions.change(|held| {
            if let Some(session) = held.get_mut(digest) {
                session.used_at = now;
            }
        });
        let noted = async {
            let mut write = self.store.begin().await?;
            store::sessions::used(&mut write, digest, now).await?;
            store::commit(write).await
        };
        if let Err(error) = noted.await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "that a session was used could not be stored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_as_it_was_written_and_is_never_printed() {
        let id = CookieSecret::random().unwrap();
        assert_eq!(CookieSecret::parse(id.expose()), Some(id.clone()));
        assert_ne!(CookieSecret::random().unwrap(), id);
        assert!(!id.csrf().contains(id.expose()) && !format!("{id:?}").contains(id.expose()));
        let long = format!("{}0", id.expose());
        for bad in
            ["", "x", &id.expose()[1..], &long, &id.expose().to_uppercase().replace('0', "A")]
        {
            assert_eq!(CookieSecret::parse(bad), None, "{bad}");
        }
    }
}
