//! Tokens, and as whom a client counts.

use knit_rpc::access::{MintedToken, NewToken, TokenView, Whoami};
use reqwest::Method;

use super::{ApiClient, HttpError};

impl ApiClient {
    pub async fn whoami(&self) -> Result<Whoami, HttpError> {
        self.get("/v1/whoami").await
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
