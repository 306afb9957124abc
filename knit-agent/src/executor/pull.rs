//! Pulls an image, signed in where the server has credentials for it.

use knit_rpc::api::PullCredentials;
use knit_rpc::message::PullProgress;

use super::{Executor, Failure, Job, sentence};
use crate::engine::EngineError;
use crate::registry::{Answer, host};

/// What the server said of credentials, as far as a refusal by the registry has to tell.
enum Login {
    With(PullCredentials),
    Without,
    /// The server was not there to be asked.
    Unasked(String),
}

impl Executor {
    /// Asks for credentials anew for each pull, so that none can be out of date. A registry that
    /// wants no login is pulled from without the server as well.
    pub(super) async fn sign_in_and_pull(
        &self,
        job: &Job,
        image: &str,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), Failure> {
        let cannot = |why: &str| format!("image {image} cannot be pulled: {why}");
        let login = match self.registries.ask(&job.instance, image).await {
            Ok(Answer::Credentials(credentials)) => Login::With(credentials),
            Ok(Answer::Nothing) => Login::Without,
            Ok(Answer::Refused(why)) => {
                return Err(Failure { message: cannot(&why), permanent: true, unreachable: false });
            }
            Err(error) => {
                tracing::info!(image, cause = sentence(&error), "pulling without credentials");
                Login::Unasked(sentence(&error))
            }
        };
        let credentials = match &login {
            Login::With(credentials) => Some(credentials),
            Login::Without | Login::Unasked(_) => None,
        };
        match self.engine.pull(image, credentials, progress).await {
            Ok(()) => Ok(()),
            Err(EngineError::Unauthorized { words }) => Err(Failure {
                message: cannot(&explain(&login, job, &host(image), &words)),
                // A server that is back may have what it takes.
                permanent: !matches!(login, Login::Unasked(_)),
                unreachable: false,
            }),
            Err(error) => {
                let message = cannot(&error.to_string());
                Err(Failure { message, ..Failure::from(error) })
            }
        }
    }
}

fn explain(login: &Login, job: &Job, host: &str, words: &str) -> String {
    let project = job.wanted.as_ref().map(|wanted| wanted.assigned.project.to_string());
    let project = project.unwrap_or_default();
    match login {
        Login::With(_) => format!(
            "registry {host} refused the credentials of project {project} (knit registry test \
             {host}): {words}"
        ),
        Login::Without => format!(
            "registry {host} wants a login or has no such image, and project {project} has no \
             credentials for it (knit registry add {host}): {words}"
        ),
        Login::Unasked(why) => format!(
            "it is not on this node, registry {host} wants a login, and the server, which may have \
             one, cannot be asked ({why}): {words}"
        ),
    }
}
