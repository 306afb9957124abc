//! Signs in to a registry of images, as Docker does.
//!
//! ```text
//! GET /v2/ ─ 200 ─> it wants no login
//!          └ 401 ─ Basic ──> the same with the password ──> taken or not
//!                └ Bearer ─> its realm, with the password ─> a token for one repository, to pull
//! ```
//!
//! Invariant: a password is sent to the registry's host, or to a realm of the same host or of its own
//! domain, and in plain text only where the user said so or on loopback. No redirect is followed.

mod challenge;

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::WWW_AUTHENTICATE;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;

use challenge::Challenge;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer, at most.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Docker's own registry answers elsewhere than its name says.
const DOCKER: &str = "docker.io";
const DOCKER_API: &str = "registry-1.docker.io";

/// Where a registry is, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Host and port, as images name it.
    pub host: String,
    /// Certificates in PEM; the system's when there are none.
    pub ca: Option<String>,
    /// Without TLS.
    pub insecure: bool,
}

/// Who signs in.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    pub username: &'a str,
    pub password: &'a str,
}

/// What a pull needs.
#[derive(Clone, PartialEq, Eq)]
pub enum Grant {
    /// Nothing: the registry lets everybody in.
    Nothing,
    /// The password itself: the registry knows nothing else.
    Password,
    /// A token that the registry gave for it.
    Token(String),
}

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("the certificates for {host} are none: they must be in PEM")]
    Certificates { host: String, source: reqwest::Error },
    #[error("the HTTPS client could not be made")]
    Client(#[source] reqwest::Error),
    #[error("{host} does not answer")]
    Unreachable { host: String, source: reqwest::Error },
    #[error("{host} refuses the user name or the password")]
    Refused { host: String },
    #[error("{host} answers like no registry: {problem}")]
    Strange { host: String, problem: String },
    #[error(
        "{host} has its logins at {realm}, which is not of its own domain: the password was not \
         sent there"
    )]
    ForeignRealm { host: String, realm: String },
    #[error(
        "{host} has its logins at {realm}, which is reached without TLS: the password was not sent \
         there"
    )]
    PlainRealm { host: String, realm: String },
}

impl RegistryError {
    /// Whether it says that these credentials are not taken; else nothing is known of them.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::ForeignRealm { .. } | Self::PlainRealm { .. })
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// Whether it is on this host.
    pub fn is_loopback(host: &str) -> bool {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Signs in to pull from a repository, or to nothing in particular.
    pub async fn sign_in(
        &self,
        login: Login<'_>,
        repository: Option<&str>,
    ) -> Result<Grant, RegistryError> {
        let client = self.client()?;
        let base = self.base();
        let asked = self.send(client.get(&base)).await?;
        let challenge = match asked.status() {
            StatusCode::OK => return Ok(Grant::Nothing),
            StatusCode::UNAUTHORIZED => {
                let headers = asked.headers().get_all(WWW_AUTHENTICATE).into_iter();
                Challenge::choose(headers.filter_map(|value| value.to_str().ok()))
            }
            status => return Err(self.strange(&format!("it says {status} to GET /v2/"))),
        };
        match challenge {
            Some(Challenge::Basic) => {
                let request = client.get(&base).basic_auth(login.username, Some(login.password));
                match self.send(request).await?.status() {
                    StatusCode::OK => Ok(Grant::Password),
                    StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.refused()),
                    status => Err(self.strange(&format!("it says {status} to a login"))),
                }
            }
            Some(Challenge::Bearer { realm, service }) => {
                let realm = self.realm(&realm)?;
                self.mint(&client, realm, service, login, repository).await.map(Grant::Token)
            }
            None => Err(self.strange("it asks for a login of a kind that Docker does not know")),
        }
    }

    fn client(&self) -> Result<Client, RegistryError> {
        crate::web::choose_cryptography();
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .redirect(Policy::none());
        if let Some(ca) = &self.ca {
            let failed = |source| RegistryError::Certificates { host: self.host.clone(), source };
            let certificates = Certificate::from_pem_bundle(ca.as_bytes()).map_err(failed)?;
            builder = builder.tls_certs_only(certificates);
        }
        builder.build().map_err(RegistryError::Client)
    }

    fn base(&self) -> String {
        let host = if self.host == DOCKER { DOCKER_API } else { &self.host };
        let scheme = if self.is_plain() { "http" } else { "https" };
        format!("{scheme}://{host}/v2/")
    }

    fn is_plain(&self) -> bool {
        self.insecure || (Self::is_loopback(&self.host) && self.ca.is_none())
    }

    /// Where the logins are, if the password may go there.
    fn realm(&self, realm: &str) -> Result<Url, RegistryError> {
        let url = Url::parse(realm)
            .map_err(|_| self.strange(&format!("its realm {realm:?} is no URL")))?;
        let at = url.host_str().unwrap_or_default().to_owned();
        let (host, shown) = (self.host.clone(), at.clone());
        if !challenge::is_of_domain(&at, &self.host) {
            return Err(RegistryError::ForeignRealm { host, realm: shown });
        }
        if url.scheme() != "https" && !self.is_plain() {
            return Err(RegistryError::PlainRealm { host, realm: shown });
        }
        Ok(url)
    }

    async fn mint(
        &self,
        client: &Client,
        mut realm: Url,
        service: Option<String>,
        login: Login<'_>,
        repository: Option<&str>,
    ) -> Result<String, RegistryError> {
        {
            let mut query = realm.query_pairs_mut();
            if let Some(service) = &service {
                query.append_pair("service", service);
            }
            if let Some(repository) = repository {
                query.append_pair("scope", &self.scope(repository));
            }
            query.append_pair("account", login.username);
        }
        let request = client.get(realm).basic_auth(login.username, Some(login.password));
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.refused()),
            status => return Err(self.strange(&format!("it says {status} to a login"))),
        }
        let body = self.body(response).await?;
        let answer: Option<TokenAnswer> = serde_json::from_slice(&body).ok();
        answer
            .and_then(|answer| answer.token.or(answer.access_token))
            .ok_or_else(|| self.strange("its login gives no token"))
    }

    /// Pulling from one repository and nothing else.
    fn scope(&self, repository: &str) -> String {
        let is_official = self.host == DOCKER && !repository.contains('/');
        let owner = if is_official { "library/" } else { "" };
        format!("repository:{owner}{repository}:pull")
    }

    async fn send(&self, request: RequestBuilder) -> Result<reqwest::Response, RegistryError> {
        // A URL may hold what nobody else should read.
        request.send().await.map_err(|error| RegistryError::Unreachable {
            host: self.host.clone(),
            source: error.without_url(),
        })
    }

    async fn body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, RegistryError> {
        let broken = |error: reqwest::Error| RegistryError::Unreachable {
            host: self.host.clone(),
            source: error.without_url(),
        };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.strange("its answer is endless"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn refused(&self) -> RegistryError {
        RegistryError::Refused { host: self.host.clone() }
    }

    fn strange(&self, problem: &str) -> RegistryError {
        RegistryError::Strange { host: self.host.clone(), problem: problem.to_owned() }
    }
}
