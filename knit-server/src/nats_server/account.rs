//! Tells a running NATS which keys of our account it is to refuse.
//!
//! Invariant: the configuration of a nats-server of ours is written before the running one is told,
//! so that one that starts again meanwhile refuses them as well.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use knit_link::bus::{Bus as _, BusError, BusState, NatsBus, NatsOptions};
use knit_runtime::clock;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Configuration, NatsServerError, jwt};
use crate::app::App;
use crate::identity::Identity;

const CONNECT_MAX: Duration = Duration::from_secs(2);
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long the token of the NATS server's own account holds.
const TOKEN_LIFE: Duration = Duration::from_mins(1);

/// Where NATS is told.
pub struct Account {
    pub url: watch::Receiver<String>,
    pub ca: Option<PathBuf>,
    /// That of the nats-server that is our child, if it is.
    pub configuration: Option<Arc<Configuration>>,
}

#[derive(Debug, thiserror::Error)]
enum RefuseError {
    #[error(transparent)]
    Configuration(#[from] NatsServerError),
    #[error("its token could not be signed")]
    Token(#[from] jwt::JwtError),
    #[error("the server's key for NATS is damaged")]
    Key(#[from] nkeys::error::Error),
    #[error(
        "it does not take the account of its own business ({0}): see `knit-server nats-config`"
    )]
    NotConnected(String),
    #[error("it did not answer")]
    Bus(#[from] BusError),
    #[error("it said {0}")]
    Refused(String),
}

/// What NATS answers to new claims.
#[derive(Debug, Deserialize)]
struct Answer {
    data: Option<Status>,
    error: Option<Status>,
}

#[derive(Debug, Deserialize)]
struct Status {
    code: u16,
    #[serde(default, alias = "description")]
    message: String,
}

impl Account {
    /// Has NATS refuse these keys up to these seconds; who is connected with such a token is
    /// dropped. Says why it does not.
    pub async fn refuse(&self, app: &App, keys: &BTreeMap<String, u64>) -> Result<(), String> {
        self.try_refuse(&app.identity, keys).await.map_err(|error| {
            let source = std::error::Error::source(&error);
            source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
        })
    }

    async fn try_refuse(
        &self,
        identity: &Identity,
        keys: &BTreeMap<String, u64>,
    ) -> Result<(), RefuseError> {
        let now = clock::now().as_millis() / 1000;
        if let Some(configuration) = &self.configuration {
            configuration.write(identity, None, keys, now).await?;
        }
        let claims = jwt::account(&identity.operator, &identity.account, "knit", true, keys, now)?;
        let bus = self.connect(identity, now).await?;
        let outcome = tell(&bus, &identity.account.public_key(), claims).await;
        bus.close().await;
        outcome
    }

    /// A connection of the NATS server's own account.
    async fn connect(&self, identity: &Identity, now: u64) -> Result<NatsBus, RefuseError> {
        let user = identity.user.public_key();
        let expires = now + TOKEN_LIFE.as_secs();
        let token = jwt::server_user(&identity.system_account, &user, now, expires)?;
        let url = self.url.borrow().clone();
        let bus = NatsBus::connect(NatsOptions {
            name: "knit-server (system)".to_owned(),
            url,
            local_address: None,
            inbox_prefix: None,
            nkey_seed: identity.user.seed()?,
            jwt: watch::channel(token).1,
            ca: self.ca.clone(),
        })
        .await?;
        let mut state = bus.state();
        let connected = state.wait_for(|state| *state == BusState::Connected);
        if timeout(CONNECT_MAX, connected).await.is_ok_and(|connected| connected.is_ok()) {
            return Ok(bus);
        }
        let why = match &*bus.state().borrow() {
            BusState::Disconnected { reason } => reason.clone(),
            BusState::Connecting | BusState::Connected => "no connection in time".to_owned(),
        };
        bus.close().await;
        Err(RefuseError::NotConnected(why))
    }
}

async fn tell(bus: &NatsBus, account: &str, claims: String) -> Result<(), RefuseError> {
    let subject = format!("$SYS.REQ.ACCOUNT.{account}.CLAIMS.UPDATE");
    let answer = bus.request(&subject, claims.into_bytes(), ANSWER_MAX).await?;
    judge(&answer)
}

/// An account that nobody has used yet is skipped: then nobody is dropped, but nobody refused.
fn judge(answer: &[u8]) -> Result<(), RefuseError> {
    let parsed: Option<Answer> = serde_json::from_slice(answer).ok();
    match parsed {
        Some(Answer { error: None, data: Some(data) })
            if data.code == 200 && !data.message.contains("skipped") =>
        {
            Ok(())
        }
        Some(Answer { error: Some(status), .. } | Answer { data: Some(status), .. }) => {
            Err(RefuseError::Refused(status.message))
        }
        Some(Answer { .. }) | None => Err(RefuseError::Refused("nothing that makes sense".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_update_that_was_made_counts() {
        for (answer, problem) in [
            (r#"{"server":{},"data":{"account":"A","code":200,"message":"jwt updated"}}"#, None),
            (r#"{"data":{"code":200,"message":"jwt update skipped"}}"#, Some("skipped")),
            (r#"{"error":{"code":500,"description":"no"}}"#, Some("it said no")),
            ("{}", Some("nothing that makes sense")),
            ("no json", Some("nothing that makes sense")),
        ] {
            let judged = judge(answer.as_bytes()).map_err(|error| error.to_string());
            match problem {
                None => assert_eq!(judged, Ok(()), "{answer}"),
                Some(problem) => assert!(judged.unwrap_err().contains(problem), "{answer}"),
            }
        }
    }
}
