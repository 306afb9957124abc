//! Logging in by an identity provider.
//!
//! Invariant: what comes back is taken only from the browser that went, once: its cookie holds the
//! secret of which state, nonce and verifier are made, and is taken away by the first answer.

use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use axum::{Extension, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use knit_runtime::clock;
use knit_server_core::browser::local_path;
use knit_server_core::oidc::{Claims, actor_name, grant};

use super::Shared;
use super::access::Origin;
use super::audit::AskedBy;
use super::error::ApiError;
use super::sessions::cookies::PROVIDER;
use super::sessions::{Browser, Entered, GoOn, admitted};
use crate::app::sessions::CookieSecret;
use crate::config::oidc::CALLBACK_PATH;
use crate::oidc::{self, Provider, ProviderError, Returned};
use crate::store::sessions::{SessionHolder, Vouched};

pub const BEGIN_PATH: &str = "/login/oidc";

pub fn routes() -> Router<Shared> {
    Router::new().route(BEGIN_PATH, get(begin)).route(CALLBACK_PATH, get(callback))
}

/// Why a login came to nothing, for the page that says so.
struct Failed {
    status: StatusCode,
    why: String,
    /// Whoever it was, if that is worth writing down.
    asked_by: Option<String>,
}

impl Failed {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), asked_by: None }
    }

    fn page(self, shared: &Shared) -> Result<Response, ApiError> {
        let mut page = shared.web.pages.problem("You are not logged in", &self.why, "/login")?;
        *page.status_mut() = self.status;
        if let Some(name) = self.asked_by {
            page.extensions_mut().insert(AskedBy(name));
        }
        Ok(page)
    }
}

fn provider(shared: &Shared) -> Result<&Provider, Failed> {
    let none = "This server knows no identity provider: log in with a token.";
    shared.web.provider.as_ref().ok_or_else(|| Failed::new(StatusCode::NOT_FOUND, none))
}

/// Sends the browser to the provider.
async fn begin(
    State(shared): State<Shared>,
    Query(query): Query<GoOn>,
) -> Result<Response, ApiError> {
    let provider = match provider(&shared) {
        Ok(provider) => provider,
        Err(failed) => return failed.page(&shared),
    };
    let secret = CookieSecret::random()?;
    let next = URL_SAFE_NO_PAD.encode(local_path(&query.next));
    match provider.begin(&secret, format!("{}.{next}", oidc::state(&secret))).await {
        Ok(url) => {
            let mut response = Redirect::to(&url).into_response();
            let cookie = shared.web.cookies().set(PROVIDER, secret.expose());
            response.headers_mut().append(header::SET_COOKIE, cookie);
            Ok(response)
        }
        Err(error) => told(provider, &error).page(&shared),
    }
}

/// Takes the browser back from the provider.
async fn callback(
    State(shared): State<Shared>,
    Extension(browser): Extension<Browser>,
    origin: Option<Extension<ConnectInfo<Origin>>>,
    headers: HeaderMap,
    Query(returned): Query<Returned>,
) -> Result<Response, ApiError> {
    let from = origin.and_then(|Extension(ConnectInfo(origin))| origin.ip());
    let cookies = shared.web.cookies();
    let secret = cookies.read(&headers, PROVIDER).and_then(CookieSecret::parse);
    let wait = from.and_then(|from| shared.failures.wait(from));
    let entered = match (secret, wait) {
        (_, Some(wait)) => {
            let why = format!("Too many logins failed. Try again in {} s.", wait.as_secs() + 1);
            Err(Failed::new(StatusCode::TOO_MANY_REQUESTS, why))
        }
        (None, None) => Err(Failed::new(
            StatusCode::BAD_REQUEST,
            "This login was begun in another browser, more than ten minutes ago, or is done with.",
        )),
        (Some(secret), None) => enter(&shared, &secret, &returned).await?,
    };
    let mut response = match entered {
        Ok((entered, next)) => {
            if let Some((old, _)) = browser.session() {
                shared.app.close_session(old).await?;
            }
            admitted(&shared, &entered, shared.web.pages.go_on(&next)?)
        }
        Err(failed) => {
            if let Some(from) = from.filter(|_| failed.asked_by.is_some()) {
                shared.failures.note(from);
            }
            failed.page(&shared)?
        }
    };
    response.headers_mut().append(header::SET_COOKIE, cookies.clear(PROVIDER));
    if let Some(wait) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
    }
    Ok(response)
}

/// Opens a session for whom the provider vouches for and a rule lets in; with where to go on to.
async fn enter(
    shared: &Shared,
    secret: &CookieSecret,
    returned: &Returned,
) -> Result<Result<(Entered, String), Failed>, ApiError> {
    let claims = match vouched(shared, secret, returned).await {
        Ok(claims) => claims,
        Err(failed) => return Ok(Err(failed)),
    };
    let settings = match provider(shared) {
        Ok(provider) => &provider.settings,
        Err(failed) => return Ok(Err(failed)),
    };
    let name = actor_name(&claims);
    let Some((role, scope)) = grant(&settings.rules, &claims) else {
        let why = format!(
            "{} knows you as {name}, but no rule of this server lets you in. Ask whoever runs it \
             for one.",
            settings.name
        );
        return Ok(Err(Failed { asked_by: Some(name), ..Failed::new(StatusCode::FORBIDDEN, why) }));
    };
    let holder = SessionHolder::Vouched(Vouched { name: name.clone(), role, scope });
    let expires_at = clock::now().plus(settings.session);
    let Some(secret) = shared.app.open_session(holder, expires_at).await? else {
        return Ok(Err(Failed::new(StatusCode::UNAUTHORIZED, "The session is over already.")));
    };
    let next = returned
        .state
        .split_once('.')
        .and_then(|(_, next)| String::from_utf8(URL_SAFE_NO_PAD.decode(next).ok()?).ok());
    let next = local_path(next.as_deref().unwrap_or("/")).to_owned();
    let how = format!("a session by {}", settings.issuer);
    Ok(Ok((Entered { name, secret, how, lasts: settings.session }, next)))
}

/// What the provider says of whoever the browser belongs to.
async fn vouched(
    shared: &Shared,
    secret: &CookieSecret,
    returned: &Returned,
) -> Result<Claims, Failed> {
    let provider = provider(shared)?;
    let wrong = |why: &str| Failed {
        asked_by: Some(UNKNOWN.to_owned()),
        ..Failed::new(StatusCode::BAD_REQUEST, why)
    };
    let state = returned.state.split('.').next().unwrap_or_default();
    if state != oidc::state(secret) {
        return Err(wrong("This is the answer to another login. Please begin again."));
    }
    if returned.iss.as_ref().is_some_and(|iss| *iss != provider.settings.issuer) {
        return Err(wrong("Another provider than the one that was asked has answered."));
    }
    if let Some(error) = &returned.error {
        let said = returned.error_description.as_ref().unwrap_or(error);
        let why = format!("{} did not let you in: {said}", provider.settings.name);
        return Err(Failed::new(StatusCode::FORBIDDEN, why));
    }
    provider.finish(secret, &returned.code).await.map_err(|error| told(provider, &error))
}

/// Who came with an identity provider's word that was none.
const UNKNOWN: &str = "somebody in an identity provider's name";

/// The sentence for whoever wanted to log in; the log says the rest.
fn told(provider: &Provider, error: &ProviderError) -> Failed {
    let name = &provider.settings.name;
    let cause: &dyn std::error::Error = error;
    tracing::warn!(error = cause, issuer = provider.settings.issuer, "a login failed");
    match error {
        ProviderError::Away(..) => Failed::new(
            StatusCode::BAD_GATEWAY,
            format!("{name} does not answer as it should. Logging in with a token works."),
        ),
        ProviderError::Secret(_) => Failed::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("This server cannot read its own secret for {name}; its log says more."),
        ),
        ProviderError::Code(_) => Failed {
            asked_by: Some(UNKNOWN.to_owned()),
            ..Failed::new(StatusCode::UNAUTHORIZED, format!("{name} does not stand by this login."))
        },
        ProviderError::Unbelievable(_) => Failed {
            asked_by: Some(UNKNOWN.to_owned()),
            ..Failed::new(
                StatusCode::UNAUTHORIZED,
                format!("What came in the name of {name} is not to be believed."),
            )
        },
    }
}
