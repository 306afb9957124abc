//! With which token a server is asked, and which server may see it.
//!
//! Invariant: a token that was kept by a login is shown only to a server that has just proven the
//! key which that login pinned. Whoever holds the mesh secret can answer at any mesh address.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use knit_rpc::access::{NoToken, Token};
use knit_rpc::api::{API_PORT, ServerIdentity};
use serde::{Deserialize, Serialize};

use super::{ApiClient, HttpError, discover};

const TOKEN_VARIABLE: &str = "KNIT_TOKEN";

/// What `knit login` keeps, in a file that only its owner can read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// For example `http://10.45.75.206:7400`.
    pub server: String,
    /// The server's public signing key (an nkey, `N…`).
    pub server_key: String,
    pub token: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({}, {})", self.server, self.server_key)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("the token in {place} is none")]
    Token { place: String, source: NoToken },
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is damaged: `knit login` writes it anew", path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error(
        "the server at {url} has the key {found}, and `knit login` was told {expected}: no token \
         was shown to it; if the cluster was made anew, `knit login` again"
    )]
    OtherServer { url: String, found: String, expected: String },
    #[error(
        "a server was found at {url} by asking the mesh, where anybody can answer: name it \
         (--server {url}), or `knit login`, and the token is shown to it"
    )]
    Unnamed { url: String },
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the system gives no random bytes")]
    Random,
}

/// What opens a server.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Named for this run: by `KNIT_TOKEN`, or in a file.
    token: Option<Token>,
    login: Option<Login>,
}

/// How an address became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// The user named it, or it is of this host.
    Named,
    /// Some host of the mesh answered there.
    Found,
}

impl Login {
    /// Where it is kept: `$XDG_CONFIG_HOME/knit/login.json`, else below `$HOME/.config`.
    pub fn path() -> Option<PathBuf> {
        let directory = |name| std::env::var_os(name).filter(|dir| !dir.is_empty());
        let config = directory("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = config.or_else(|| Some(PathBuf::from(directory("HOME")?).join(".config")))?;
        Some(config.join("knit/login.json"))
    }

    /// What was kept, if anything was.
    pub fn load() -> Result<Option<Self>, KeysError> {
        let Some(path) = Self::path() else { return Ok(None) };
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| KeysError::Damaged { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(KeysError::Read { path, source }),
        }
    }
}

impl Keys {
    /// Reads the variable `KNIT_TOKEN`, else the file if one is named, and the kept login.
    pub fn load(token_file: Option<&Path>) -> Result<Self, KeysError> {
        Ok(Self { token: named_token(token_file)?, login: Login::load()? })
    }

    /// The server that `knit login` chose.
    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// A client of the server at `url`, with the token that may be shown there, if there is one.
    pub async fn open(&self, url: &str, known: Known) -> Result<ApiClient, KeysError> {
        self.open_with(ApiClient::new(url)?, known).await
    }

    /// The same client, with the token that its server may see, if there is one.
    pub async fn open_with(&self, client: ApiClient, known: Known) -> Result<ApiClient, KeysError> {
        let kept = self.login.as_ref().filter(|login| is_same(&login.server, client.base_url()));
        if let Some(login) = kept {
            prove(&client, &login.server_key).await?;
            let token = match &self.token {
                Some(token) => token.clone(),
                None => read(&login.token, "the kept login")?,
            };
            return Ok(client.with_token(token));
        }
        match (&self.token, known) {
            (Some(_), Known::Found) => {
                Err(KeysError::Unnamed { url: client.base_url().to_owned() })
            }
            (Some(token), Known::Named) => Ok(client.with_token(token.clone())),
            (None, _) => Ok(client),
        }
    }

    /// A client of the server that `login` chose, wherever it is by now: where it was, else at one
    /// of these addresses, if it proves its key there.
    pub async fn open_login(
        &self,
        login: &Login,
        elsewhere: impl AsyncFnOnce() -> Vec<Ipv4Addr>,
    ) -> Result<ApiClient, KeysError> {
        let gone = match self.open(&login.server, Known::Named).await {
            Err(KeysError::Http(error @ HttpError::Unreachable { .. })) => error,
            opened => return opened,
        };
        for (url, _) in discover(&elsewhere().await, API_PORT).await {
            let moved = Login { server: url.clone(), ..login.clone() };
            let keys = Self { login: Some(moved), ..self.clone() };
            if let Ok(client) = keys.open(&url, Known::Named).await {
                return Ok(client);
            }
        }
        Err(gone.into())
    }
}

/// Has the server prove who it is, by an answer to a question that was never asked before.
pub async fn proven_identity(client: &ApiClient) -> Result<ServerIdentity, KeysError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|_| KeysError::Random)?;
    Ok(client.identity(&hex::encode(nonce)).await?)
}

/// Has the server prove that it has this key.
async fn prove(client: &ApiClient, expected: &str) -> Result<(), KeysError> {
    let identity = proven_identity(client).await?;
    if identity.server_key == expected {
        return Ok(());
    }
    let (url, found) = (client.base_url().to_owned(), identity.server_key);
    Err(KeysError::OtherServer { url, found, expected: expected.to_owned() })
}

fn named_token(file: Option<&Path>) -> Result<Option<Token>, KeysError> {
    let variable = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.trim().is_empty());
    if let Some(text) = variable {
        return read(&text, TOKEN_VARIABLE).map(Some);
    }
    let Some(path) = file else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map_err(|source| KeysError::Read { path: path.to_owned(), source })?;
    read(&text, &path.display().to_string()).map(Some)
}

fn read(text: &str, place: &str) -> Result<Token, KeysError> {
    Token::parse(text).map_err(|source| KeysError::Token { place: place.to_owned(), source })
}

/// Whether two addresses of servers are one, as they are written.
fn is_same(a: &str, b: &str) -> bool {
    let plain = |url: &str| ApiClient::new(url).map(|client| client.base_url().to_owned()).ok();
    a == b || plain(a).is_some_and(|a| plain(b).is_some_and(|b| a == b))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use knit_rpc::id::{ClusterId, TokenId};
    use knit_rpc::signed::{self, Context};
    use nkeys::KeyPair;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that proves this key and answers `[]` to the rest; what it was asked, whole.
    async fn server(key: Arc<KeyPair>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes).await.unwrap_or_default();
                let request = String::from_utf8_lossy(&bytes[..count]).into_owned();
                let nonce = request.split_once("nonce=").map(|(_, rest)| rest[..32].to_owned());
                let body = nonce.map_or(b"[]".to_vec(), |nonce| {
                    let cluster = ClusterId::from_bytes([1; 16]);
                    let server_key = key.public_key();
                    let body = ServerIdentity { cluster, server_key, nonce };
                    signed::sign(&key, Context::Identity, &body).unwrap()
                });
                log.lock().unwrap().push(request);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(&[head.into_bytes(), body].concat()).await;
            }
        });
        (url, asked)
    }

    fn token() -> Token {
        Token::new(TokenId::from_bytes([1; 4]), [2; 32])
    }

    fn keys(token: Option<Token>, login: Option<(&str, &KeyPair)>) -> Keys {
        let login = login.map(|(server, key)| Login {
            server: server.to_owned(),
            server_key: key.public_key(),
            token: self::token().expose().to_owned(),
        });
        Keys { token, login }
    }

    fn saw_token(asked: &Mutex<Vec<String>>) -> bool {
        asked.lock().unwrap().iter().any(|request| request.contains(token().expose()))
    }

    #[tokio::test]
    async fn a_kept_token_is_shown_to_the_pinned_server_and_to_no_other() {
        let (right, wrong) = (Arc::new(KeyPair::new_server()), Arc::new(KeyPair::new_server()));
        let (url, asked) = server(Arc::clone(&right)).await;
        let client = keys(None, Some((&url, &right))).open(&url, Known::Named).await.unwrap();
        client.nodes().await.unwrap();
        assert!(saw_token(&asked));

        let (url, asked) = server(wrong).await;
        let error = keys(None, Some((&url, &right))).open(&url, Known::Named).await.unwrap_err();
        assert!(error.to_string().contains("no token was shown to it"), "{error}");
        let elsewhere = keys(None, Some(("http://192.0.2.1:7400", &right)));
        elsewhere.open(&url, Known::Named).await.unwrap().nodes().await.unwrap();
        assert!(!saw_token(&asked), "{asked:?}");
    }

    #[tokio::test]
    async fn a_named_token_is_shown_to_a_named_server_and_not_to_one_that_was_found() {
        let (url, asked) = server(Arc::new(KeyPair::new_server())).await;
        let keys = keys(Some(token()), None);
        let error = keys.open(&url, Known::Found).await.unwrap_err();
        assert!(error.to_string().contains(&format!("--server {url}")), "{error}");
        assert!(!saw_token(&asked));
        keys.open(&url, Known::Named).await.unwrap().nodes().await.unwrap();
        assert!(saw_token(&asked));
    }

    #[tokio::test]
    async fn an_answer_to_another_question_proves_nothing() {
        let key = KeyPair::new_server();
        let (url, _) = server(Arc::new(KeyPair::new_server())).await;
        let client = ApiClient::new(&url).unwrap();
        // It repeats the first 32 digits only: the nonce it signs is not the one it was sent.
        let error = client.identity(&"ab".repeat(32)).await.unwrap_err();
        assert!(matches!(error, HttpError::Unproven { .. }), "{error}");
        assert!(client.identity(&"ab".repeat(16)).await.is_ok());
        let printed = format!("{:?}", keys(Some(token()), Some((&url, &key))));
        assert!(!printed.contains(token().expose()), "{printed}");
    }
}
