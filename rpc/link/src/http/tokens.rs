//! Tokens, as whom a client counts, and whether a server is the one it should be.

use knit_rpc::access::{MintedToken, NewToken, TokenView, Whoami};
use knit_rpc::api::ServerIdentity;
use knit_rpc::signed::{self, Context};
use reqwest::Method;

use super::{ApiClient, HttpError};

impl ApiClient {
    pub async fn whoami(&self) -> Result<Whoami, HttpError> {
        self.get("/v1/whoami").await
    }

    /// Has the server prove who it is; `nonce` is 32 to 128 random hex digits.
    ///
    /// The proof is by the key that the answer names: compare that with the one that is expected.
    pub async fn identity(&self, nonce: &str) -> Result<ServerIdentity, HttpError> {
        let request = self.request(Method::GET, &format!("/v1/identity?nonce={nonce}"));
        let (response, url) = self.send(request).await?;
        let bytes = match response.bytes().await {
            Ok(bytes) => bytes,
            Err(source) => return Err(HttpError::Answer { url, source }),
        };
        let claimed = signed::peek::<ServerIdentity>(&bytes);
        let proven = claimed
            .and_then(|claim| signed::verify(&claim.server_key, Context::Identity, &bytes))
            .ok()
            .filter(|identity: &ServerIdentity| identity.nonce == nonce);
        proven.ok_or(HttpError::Unproven { url })
    }

    pub async fn tokens(&self) -> Result<Vec<TokenView>, HttpError> {
        self.get("/v1/tokens").await
    }

    /// Makes a token: the only answer that holds its secret.
    pub async fn create_token(&self, new: &NewToken) -> Result<MintedToken, HttpError> {
        self.exchange(Method::POST, "/v1/tokens", new).await
    }

    pub async fn revoke_token(&self, id: &str) -> Result<(), HttpError> {
        self.delete(&format!("/v1/tokens/{id}")).await
    }
}
