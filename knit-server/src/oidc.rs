//! An identity provider by OpenID Connect: the authorization code with PKCE.
//!
//! ```text
//! begin ─> address at the provider ─> (browser) ─> code ─> finish ─> claims that it vouches for
//!   └ state, nonce and verifier all come of the one secret in the browser's cookie ─┘
//! ```
//!
//! Invariant: claims leave [`Provider::finish`] only when their signature, issuer, audience, time
//! and nonce were found right; the crate `openidconnect`, which this module owns, finds that out.

use std::pin::Pin;
use std::time::Duration;

use axum::http;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use knit_link::web::{WebClient, WebError};
use knit_server_core::oidc::Claims;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClientAuthMethod,
    CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AsyncHttpClient, AuthType, AuthorizationCode,
    ClaimsVerificationError, Client, ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IdTokenFields,
    IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    RequestTokenError, Scope, SignatureVerificationError, StandardErrorResponse,
    StandardTokenResponse, TokenResponse as _, UserInfoClaims, UserInfoError,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::app::sessions::CookieSecret;
use crate::config::oidc::Oidc;

/// What the provider says of itself is asked again after this.
const METADATA_AGE_MAX: Duration = Duration::from_mins(5);
/// A provider that did not answer is left alone for so long: those who ask meanwhile need not queue
/// up for the same silence.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// By which a provider may sign; what both sides know (HS…) and nothing (`none`) are not among them.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Why somebody could not log in.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It is away, or is no such provider: whoever asks is not to blame.
    #[error("the identity provider {0} does not answer as one")]
    Away(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the secret of this server at the identity provider cannot be read")]
    Secret(#[source] std::io::Error),
    /// It does not stand by what the browser brought.
    #[error("the identity provider refused the code")]
    Code(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("what came in the identity provider's name is not to be believed")]
    Unbelievable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Every claim that the standard gives no type.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rest(Claims);

impl AdditionalClaims for Rest {}

type Fields = IdTokenFields<
    Rest,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Tokens = StandardTokenResponse<Fields, CoreTokenType>;
type Relying = Client<
    Rest,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// The provider, and what it said of itself last.
pub struct Provider {
    pub settings: Oidc,
    http: Http,
    known: Mutex<Known>,
}

/// What the provider said of itself, and when it last said nothing.
#[derive(Default)]
struct Known {
    metadata: Option<(Instant, CoreProviderMetadata)>,
    failed_at: Option<Instant>,
}

/// What a browser brings back from the provider.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Returned {
    pub state: String,
    pub code: String,
    pub error: Option<String>,
    pub error_description: Option<String>,
    /// Which provider says so, by its own word.
    pub iss: Option<String>,
}

impl Provider {
    pub fn new(settings: Oidc) -> Result<Self, WebError> {
        Ok(Self { settings, http: Http(WebClient::new()?), known: Mutex::default() })
    }

    /// Where the browser that has this secret goes to log in.
    pub async fn begin(
        &self,
        secret: &CookieSecret,
        state: String,
    ) -> Result<String, ProviderError> {
        let relying = self.relying(self.metadata(METADATA_AGE_MAX).await?)?;
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier(secret));
        let scopes = self.settings.scopes.iter().map(|scope| Scope::new(scope.clone()));
        let nonce = nonce(secret);
        let (url, ..) = relying
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state),
                move || nonce,
            )
            .add_scopes(scopes)
            .set_pkce_challenge(challenge)
            .url();
        Ok(url.to_string())
    }

    /// Changes the code that a browser brought for what the provider says of its owner.
    pub async fn finish(&self, secret: &CookieSecret, code: &str) -> Result<Claims, ProviderError> {
        let mut relying = self.relying(self.metadata(METADATA_AGE_MAX).await?)?;
        let tokens = relying
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| self.away(error))?
            .set_pkce_verifier(verifier(secret))
            .request_async(&self.http)
            .await
            .map_err(|error| match error {
                RequestTokenError::Request(error) => self.away(error),
                error @ (RequestTokenError::ServerResponse(_)
                | RequestTokenError::Parse(..)
                | RequestTokenError::Other(_)) => ProviderError::Code(Box::new(error)),
            })?;
        let vouched = match vouched(&relying, &tokens, secret) {
            // It may have changed its keys since it was asked for them.
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => {
                relying = self.relying(self.metadata(Duration::ZERO).await?)?;
                vouched(&relying, &tokens, secret)
            }
            first => first,
        };
        let mut claims = vouched.map_err(|error| ProviderError::Unbelievable(Box::new(error)))?;
        for (claim, value) in self.user_info(&relying, &tokens, &claims).await? {
            claims.entry(claim).or_insert(value);
        }
        Ok(claims)
    }

    /// What the userinfo endpoint adds, if there is one. It speaks of the same subject, or is not
    /// believed.
    async fn user_info(
        &self,
        relying: &Relying,
        tokens: &Tokens,
        claims: &Claims,
    ) -> Result<Claims, ProviderError> {
        let subject = claims.get("sub").and_then(serde_json::Value::as_str).unwrap_or_default();
        let subject = openidconnect::SubjectIdentifier::new(subject.to_owned());
        let Ok(request) = relying.user_info(tokens.access_token().clone(), Some(subject)) else {
            return Ok(Claims::new());
        };
        let told: UserInfoClaims<Rest, CoreGenderClaim> =
            request.request_async(&self.http).await.map_err(|error| {
                if let UserInfoError::Request(error) = error {
                    return self.away(error);
                }
                ProviderError::Unbelievable(Box::new(error))
            })?;
        as_map(&told).map_err(|error| ProviderError::Unbelievable(Box::new(error)))
    }

    fn relying(&self, metadata: CoreProviderMetadata) -> Result<Relying, ProviderError> {
        let takes = metadata.token_endpoint_auth_methods_supported();
        let only_body = takes.is_some_and(|takes| {
            !takes.contains(&CoreClientAuthMethod::ClientSecretBasic)
                && takes.contains(&CoreClientAuthMethod::ClientSecretPost)
        });
        let redirect = RedirectUrl::new(self.settings.redirect_url.clone())
            .map_err(|error| self.away(error))?;
        let id = ClientId::new(self.settings.client_id.clone());
        let auth = if only_body { AuthType::RequestBody } else { AuthType::BasicAuth };
        Ok(Client::from_provider_metadata(metadata, id, self.secret()?)
            .set_redirect_uri(redirect)
            .set_auth_type(auth))
    }

    /// Read each time: who changes it need not start the server again.
    fn secret(&self) -> Result<Option<ClientSecret>, ProviderError> {
        let Some(path) = &self.settings.client_secret_file else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(ProviderError::Secret)?;
        Ok(Some(ClientSecret::new(text.trim().to_owned())))
    }

    async fn metadata(&self, age_max: Duration) -> Result<CoreProviderMetadata, ProviderError> {
        let mut known = self.known.lock().await;
        if let Some((at, metadata)) = &known.metadata
            && at.elapsed() < age_max
        {
            return Ok(metadata.clone());
        }
        if known.failed_at.is_some_and(|at| at.elapsed() < RETRY_AFTER) {
            return Err(self.away(std::io::Error::from(std::io::ErrorKind::NotConnected)));
        }
        let issuer =
            IssuerUrl::new(self.settings.issuer.clone()).map_err(|error| self.away(error))?;
        let found = CoreProviderMetadata::discover_async(issuer, &self.http).await;
        known.failed_at = found.is_err().then(Instant::now);
        let found = found.map_err(|error| self.away(error))?;
        known.metadata = Some((Instant::now(), found.clone()));
        Ok(found)
    }

    fn away(&self, error: impl std::error::Error + Send + Sync + 'static) -> ProviderError {
        ProviderError::Away(self.settings.issuer.clone(), Box::new(error))
    }
}

/// How `openidconnect` asks.
struct Http(WebClient);

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = WebError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, WebError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let url = parts.uri.to_string();
            let answer = self.0.send(parts.method, &url, parts.headers, body).await?;
            let mut response = http::Response::new(answer.body);
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}

/// The claims of the ID token, if all about it is right.
fn vouched(
    relying: &Relying,
    tokens: &Tokens,
    secret: &CookieSecret,
) -> Result<Claims, ClaimsVerificationError> {
    let other = |why: &str| ClaimsVerificationError::Other(why.to_owned());
    let token = tokens.id_token().ok_or_else(|| other("there is no ID token"))?;
    let verifier = relying.id_token_verifier().set_allowed_algs(ALGORITHMS);
    let claims = token.claims(&verifier, &nonce(secret))?;
    if let Some(expected) = claims.access_token_hash() {
        let (algorithm, key) = (token.signing_alg(), token.signing_key(&verifier));
        let wrong = ClaimsVerificationError::SignatureVerification;
        let (algorithm, key) = (algorithm.map_err(wrong)?, key.map_err(wrong)?);
        let found = AccessTokenHash::from_token(tokens.access_token(), algorithm, key)
            .map_err(|error| other(&error.to_string()))?;
        if found != *expected {
            return Err(other("the access token belongs to another ID token"));
        }
    }
    as_map(claims).map_err(|error| other(&error.to_string()))
}

fn as_map(claims: &impl Serialize) -> Result<Claims, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(claims)?)
}

/// What the provider sends back with the browser, to be compared.
pub fn state(secret: &CookieSecret) -> String {
    derived(secret, "state")
}

fn nonce(secret: &CookieSecret) -> Nonce {
    Nonce::new(derived(secret, "nonce"))
}

fn verifier(secret: &CookieSecret) -> PkceCodeVerifier {
    PkceCodeVerifier::new(derived(secret, "verifier"))
}

fn derived(secret: &CookieSecret, what: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("knit oidc {what} {}", secret.expose())))
}
