//! The REST API, as a client.

mod audit;
mod deployments;
mod discover;
mod events;
mod login;
mod networks;
mod nodes;
mod projects;
mod registries;
mod secrets;
mod status;
mod tokens;
mod volumes;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use knit_rpc::access::Token;
use knit_rpc::api::{ErrorBody, InstanceView, Ping};
use knit_rpc::id::ProjectName;
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use deployments::RolloutStep;
pub use discover::{ASK_TIMEOUT, discover};
pub use events::EventStream;
pub use login::{Keys, KeysError, Known, Login, proven_identity};
pub use status::get_status;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("\"{url}\" is no address of a server: write http://HOST:PORT")]
    Address { url: String },
    #[error("the HTTP client could not be made")]
    Client(#[source] reqwest::Error),
    #[error(
        "the server at {url} does not answer: is knit-server running there, and is this the right address?"
    )]
    Unreachable { url: String, source: reqwest::Error },
    #[error("{}", body.message)]
    Refused { status: u16, body: Box<ErrorBody> },
    #[error("{url} answered {status}, which a Knit server would not")]
    Stranger { url: String, status: u16 },
    #[error("the answer of {url} could not be read")]
    Answer { url: String, source: reqwest::Error },
    #[error("{url} says that it is a Knit server and cannot prove it")]
    Unproven { url: String },
    #[error("the answer of {url} is not what it should be")]
    Decode { url: String, source: serde_json::Error },
}

impl HttpError {
    /// The HTTP status, when the server answered at all.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } | Self::Stranger { status, .. } => Some(*status),
            Self::Address { .. }
            | Self::Client(_)
            | Self::Unreachable { .. }
            | Self::Answer { .. }
            | Self::Unproven { .. }
            | Self::Decode { .. } => None,
        }
    }
}

/// A client of one server; cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiClient {
    /// Where the server is, as it is told.
    base: String,
    on_socket: bool,
    http: Client,
    token: Option<Token>,
}

impl ApiClient {
    /// A client for `http://HOST:PORT`, where the scheme may be left out, or for
    /// `unix:PATH`.
    pub fn new(base_url: &str) -> Result<Self, HttpError> {
        match base_url.trim().strip_prefix("unix:") {
            Some(path) => Self::on_socket(Path::new(path)),
            None => Self::build(base_url, None),
        }
    }

    /// A client of the server on this host, which knows root by the socket.
    pub fn on_socket(path: &Path) -> Result<Self, HttpError> {
        let base = format!("unix:{}", path.display());
        let http = plain_client()
            .connect_timeout(CONNECT_TIMEOUT)
            .unix_socket(path)
            .build()
            .map_err(HttpError::Client)?;
        Ok(Self { base, on_socket: true, http, token: None })
    }

    /// The same client, which is told to be of this address: a socket may lead further than it looks.
    #[must_use]
    pub fn known_as(self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self }
    }

    /// The same client, which shows a token with each request.
    #[must_use]
    pub fn with_token(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Like `new`, with connections that leave from one local address.
    pub fn bound_to(base_url: &str, local_address: Ipv4Addr) -> Result<Self, HttpError> {
        Self::build(base_url, Some(local_address))
    }

    fn build(base_url: &str, local: Option<Ipv4Addr>) -> Result<Self, HttpError> {
        let host = base_url.trim();
        let host = host.strip_prefix("http://").unwrap_or(host).trim_end_matches('/');
        let base = format!("http://{host}");
        let wrong = || HttpError::Address { url: base_url.to_owned() };
        let url = reqwest::Url::parse(&base).map_err(|_| wrong())?;
        if host.contains("://") || url.host_str().is_none_or(str::is_empty) {
            return Err(wrong());
        }
        let http = plain_client()
            .connect_timeout(CONNECT_TIMEOUT)
            .local_address(local.map(IpAddr::V4))
            .build()
            .map_err(HttpError::Client)?;
        Ok(Self { base, on_socket: false, http, token: None })
    }

    /// For example `http://10.45.75.206:7400`, `unix:/run/knit/server.sock` or `ssh://root@host`.
    pub fn base_url(&self) -> &str {
        &self.base
    }

    pub async fn ping(&self) -> Result<Ping, HttpError> {
        self.get("/v1/ping").await
    }

    /// Sends a signed registration; the answer is signed too.
    pub async fn register(&self, signed: Vec<u8>) -> Result<Vec<u8>, HttpError> {
        self.send_signed("/v1/nodes/register", signed).await
    }

    async fn send_signed(&self, path: &str, signed: Vec<u8>) -> Result<Vec<u8>, HttpError> {
        let request = self
            .request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(signed);
        let (response, url) = self.send(request).await?;
        let body = response.bytes().await.map_err(|source| HttpError::Answer { url, source })?;
        Ok(body.into())
    }

    /// Of a project, or of all.
    pub async fn instances(
        &self,
        project: Option<&ProjectName>,
    ) -> Result<Vec<InstanceView>, HttpError> {
        self.get(&list("/v1/instances", project)).await
    }

    /// Events as they happen, after the one with this sequence number.
    pub async fn events(&self, after: Option<u64>) -> Result<EventStream, HttpError> {
        let query = after.map_or_else(String::new, |after| format!("?after={after}"));
        let path = format!("/v1/events{query}");
        let request = self.endless(&path).header(header::ACCEPT, "text/event-stream");
        let (response, url) = self.send(request).await?;
        Ok(EventStream::new(url, response))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        self.json(self.request(Method::GET, path)).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        self.json(self.request(Method::POST, path)).await
    }

    /// Sends a value and reads the answer.
    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        value: &impl Serialize,
    ) -> Result<T, HttpError> {
        self.json(self.request(method, path).json(value)).await
    }

    async fn delete(&self, path: &str) -> Result<(), HttpError> {
        self.send(self.request(Method::DELETE, path)).await?;
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.with_credentials(self.http.request(method, self.url(path))).timeout(REQUEST_TIMEOUT)
    }

    /// A GET whose answer may take as long as it likes.
    fn endless(&self, path: &str) -> RequestBuilder {
        self.with_credentials(self.http.get(self.url(path)))
    }

    fn url(&self, path: &str) -> String {
        // On a socket the host is nobody's name.
        let base = if self.on_socket { "http://localhost" } else { &self.base };
        format!("{base}{path}")
    }

    fn with_credentials(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, HttpError> {
        let (response, url) = self.send(request).await?;
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(source) => return Err(HttpError::Answer { url, source }),
        };
        serde_json::from_slice(&body).map_err(|source| HttpError::Decode { url, source })
    }

    /// Sends a request; what is no success becomes the server's own words.
    async fn send(&self, request: RequestBuilder) -> Result<(Response, String), HttpError> {
        let response = request
            .send()
            .await
            .map_err(|source| HttpError::Unreachable { url: self.base.clone(), source })?;
        let (status, url) = (response.status(), response.url().to_string());
        if status.is_success() {
            return Ok((response, url));
        }
        Err(refusal(response, status, url).await)
    }
}

/// A client of what speaks plain HTTP. Where another part of the program brings TLS along, this one
/// neither needs its certificates nor reads them from the disk.
fn plain_client() -> ClientBuilder {
    let client = Client::builder().no_proxy();
    #[cfg(feature = "web")]
    let client = {
        crate::web::choose_cryptography();
        client.tls_certs_only([])
    };
    client
}

/// The path of a list, of one project or of all.
fn list(path: &str, project: Option<&ProjectName>) -> String {
    project.map_or_else(|| path.to_owned(), |project| format!("{path}?project={project}"))
}

async fn refusal(response: Response, status: StatusCode, url: String) -> HttpError {
    let status = status.as_u16();
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(source) => return HttpError::Answer { url, source },
    };
    match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) => HttpError::Refused { status, body: Box::new(body) },
        Err(_) => HttpError::Stranger { url, status },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_its_scheme_and_must_have_a_host() {
        for (given, base) in [
            ("http://10.0.0.1:7400", "http://10.0.0.1:7400"),
            ("10.0.0.1:7400/", "http://10.0.0.1:7400"),
            (" host ", "http://host"),
        ] {
            assert_eq!(ApiClient::new(given).expect(given).base_url(), base);
        }
        for wrong in ["", "http://", "ftp://host", "http://host:port"] {
            assert!(ApiClient::new(wrong).is_err(), "{wrong}");
        }
    }
}
