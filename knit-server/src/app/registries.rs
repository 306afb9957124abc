//! Registries that take a user name and a password.
//!
//! Invariant: a password comes out of the vault only to sign in, or to be sealed to a node for a pull
//! that its assignment asks for. It is in no answer, no log and no audit.

mod pull;

use knit_link::registry::{Grant, Login, Registry, RegistryError};
use knit_rpc::api::{FieldProblem, NewRegistry, RegistryTest, RegistryView};
use knit_rpc::id::ProjectName;
use knit_rpc::spec::ImageRef;
use knit_runtime::clock;
use knit_runtime::error::sentence;
use knit_server_core::access::Actor;
use zeroize::Zeroizing;

use super::bounds::problem;
use super::{App, AppError};
use crate::store;
use crate::store::registries::StoredRegistry;
use crate::vault::{Place, VaultError};

/// Registries of one project, at most.
const REGISTRIES_MAX: usize = 100;
const USERNAME_BYTES_MAX: usize = 256;
/// Tokens that clouds give for passwords are long.
const PASSWORD_BYTES_MAX: usize = 16 * 1024;
const CA_BYTES_MAX: usize = 64 * 1024;
const HOST_BYTES_MAX: usize = 255;

impl App {
    /// Registries of a project, or of all.
    pub async fn registries(
        &self,
        project: Option<&ProjectName>,
    ) -> Result<Vec<RegistryView>, AppError> {
        let mut all = self.store.registries().await?;
        all.retain(|one| project.is_none_or(|project| one.project == *project));
        Ok(all.iter().map(StoredRegistry::view).collect())
    }

    /// Keeps how to sign in to a registry, in place of what was kept before.
    pub async fn put_registry(
        &self,
        actor: &Actor,
        new: NewRegistry,
    ) -> Result<RegistryView, AppError> {
        let password = Zeroizing::new(new.password.clone());
        let fields = problems(&new);
        if !fields.is_empty() {
            return Err(AppError::Fields { what: "registry", fields });
        }
        // Held to the end, so that the project stays.
        let world = self.world().await;
        let missing = |problem| AppError::Fields { what: "registry", fields: vec![problem] };
        world.check_project(&new.project).map_err(missing)?;
        let known = self.registries(Some(&new.project)).await?;
        let before = known.iter().find(|one| one.host == new.host);
        if before.is_none() && known.len() >= REGISTRIES_MAX {
            return Err(AppError::Conflict(format!(
                "project {} has {} registries, and may have {REGISTRIES_MAX}: remove one first",
                new.project,
                known.len()
            )));
        }
        let now = clock::now();
        let sealed = self.vault.seal(&place(&new.project, &new.host), password.as_bytes());
        let stored = StoredRegistry {
            project: new.project,
            host: new.host,
            username: new.username,
            password: sealed.map_err(shut)?,
            ca: new.ca,
            insecure: new.insecure,
            changed_by: actor.name.clone(),
            created_at: before.map_or(now, |before| before.created_at),
            changed_at: now,
        };
        let mut write = self.store.begin().await?;
        store::registries::put(&mut write, &stored).await?;
        store::commit(write).await?;
        drop(world);
        Ok(stored.view())
    }

    pub async fn remove_registry(&self, project: &ProjectName, host: &str) -> Result<(), AppError> {
        let mut write = self.store.begin().await?;
        let was_there = store::registries::remove(&mut write, project, host).await?;
        store::commit(write).await?;
        was_there.then_some(()).ok_or_else(|| no_registry(project, host))
    }

    /// Signs in to a registry and says how that went.
    pub async fn test_registry(
        &self,
        project: &ProjectName,
        host: &str,
    ) -> Result<RegistryTest, AppError> {
        let stored = self.store.registry(project, host).await?;
        let stored = stored.ok_or_else(|| no_registry(project, host))?;
        let host = &stored.host;
        Ok(match self.sign_in(&stored, None).await? {
            Ok(Grant::Nothing) => RegistryTest {
                takes: true,
                message: format!("{host} lets everybody in: it did not ask for the password"),
            },
            Ok(Grant::Password) => RegistryTest {
                takes: true,
                message: format!(
                    "{host} takes the password of {}; it knows no tokens, so that a node is handed \
                     the password for each pull",
                    stored.username
                ),
            },
            Ok(Grant::Token(_)) => RegistryTest {
                takes: true,
                message: format!(
                    "{host} takes the password of {}; a node is handed a token for each pull",
                    stored.username
                ),
            },
            Err(error) => RegistryTest { takes: false, message: sentence(&error) },
        })
    }

    /// Signs in with what is kept, to pull from this repository or from none.
    async fn sign_in(
        &self,
        stored: &StoredRegistry,
        repository: Option<&str>,
    ) -> Result<Result<Grant, RegistryError>, AppError> {
        let password = self.password(stored)?;
        let registry = Registry {
            host: stored.host.clone(),
            ca: stored.ca.clone(),
            insecure: stored.insecure,
        };
        let login = Login { username: &stored.username, password: &password };
        Ok(registry.sign_in(login, repository).await)
    }

    fn password(&self, stored: &StoredRegistry) -> Result<Zeroizing<String>, AppError> {
        let opened = self.vault.open(&place(&stored.project, &stored.host), &stored.password);
        let text = std::str::from_utf8(&opened.map_err(shut)?).map(str::to_owned);
        text.map(Zeroizing::new).map_err(|error| AppError::Internal(Box::new(error)))
    }
}

/// What is wrong with what somebody says of a registry.
fn problems(new: &NewRegistry) -> Vec<FieldProblem> {
    let mut fields = Vec::new();
    if let Err(why) = ImageRef::check_registry(&new.host) {
        fields.push(problem("host", &why));
    } else if new.host.len() > HOST_BYTES_MAX {
        fields.push(problem("host", "is longer than 255 bytes"));
    }
    if new.username.is_empty() || new.username.len() > USERNAME_BYTES_MAX {
        fields.push(problem("username", "must be 1 to 256 bytes"));
    } else if new.username.contains(|c: char| c == ':' || c.is_control()) {
        fields.push(problem("username", "must hold no colon and no control character"));
    }
    if new.password.is_empty() || new.password.len() > PASSWORD_BYTES_MAX {
        fields.push(problem("password", "must be 1 byte to 16 KiB"));
    } else if new.password.contains(char::is_control) {
        fields.push(problem("password", "must be one line without control characters"));
    }
    if let Some(ca) = &new.ca {
        if ca.len() > CA_BYTES_MAX || !ca.contains("-----BEGIN CERTIFICATE-----") {
            fields.push(problem("ca", "must be certificates in PEM, 64 KiB at most"));
        }
        if new.insecure {
            fields
                .push(problem("insecure", "without TLS there is no certificate to check: say one"));
        }
    }
    fields
}

fn place(project: &ProjectName, host: &str) -> Place {
    Place { kind: "registry", project: project.to_string(), name: host.to_owned(), version: 0 }
}

fn shut(error: VaultError) -> AppError {
    match error {
        VaultError::Shut(why) => {
            AppError::NotYet(format!("the server cannot open what it keeps sealed: {why}"))
        }
        VaultError::Random(_) | VaultError::Damaged { .. } => AppError::Internal(Box::new(error)),
    }
}

fn no_registry(project: &ProjectName, host: &str) -> AppError {
    AppError::NotFound(format!("project {project} has no credentials for {host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> NewRegistry {
        NewRegistry {
            project: ProjectName::default(),
            host: "r.example:5000".to_owned(),
            username: "ci".to_owned(),
            password: "pass word".to_owned(),
            ca: None,
            insecure: false,
        }
    }

    #[test]
    fn what_is_no_registry_is_said_by_field() {
        assert!(problems(&good()).is_empty());
        let long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        let ca = Some("-----BEGIN CERTIFICATE-----".to_owned());
        for (new, field) in [
            (NewRegistry { host: "https://r.example".to_owned(), ..good() }, "host"),
            (NewRegistry { host: "r.example/team".to_owned(), ..good() }, "host"),
            (NewRegistry { username: String::new(), ..good() }, "username"),
            (NewRegistry { username: "a:b".to_owned(), ..good() }, "username"),
            (NewRegistry { password: String::new(), ..good() }, "password"),
            (NewRegistry { password: "a\nb".to_owned(), ..good() }, "password"),
            (NewRegistry { password: long, ..good() }, "password"),
            (NewRegistry { ca: Some("rubbish".to_owned()), ..good() }, "ca"),
            (NewRegistry { ca, insecure: true, ..good() }, "insecure"),
        ] {
            let found: Vec<String> = problems(&new).into_iter().map(|one| one.field).collect();
            assert_eq!(found, [field], "{new:?}");
        }
    }
}
