//! Pages for browsers: logging in and out, and who one is. Where the dashboard hangs in: beside
//! [`home`], with [`Browser`] for who asks and `pages/layout.hbs` around it.
//!
//! ```text
//! GET /login ─> form with a secret of its cookie ─> POST /login: token ─> session, new cookie ─> /
//! GET /login/oidc ─> the identity provider ─> GET /login/oidc/callback ─> session, new cookie ─> /
//! ```

mod browser;
pub mod cookies;
mod pages;

use std::time::Duration;

use axum::extract::{ConnectInfo, Form, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use axum::{Extension, Router};
use knit_rpc::access::Token;
use knit_rpc::id::TokenId;
use knit_runtime::clock;
use knit_server_core::browser::{SESSION_AGE_MAX, local_path};
use serde::Deserialize;

use super::Shared;
use super::access::Origin;
use super::audit::{AskedBy, Opened, Subject, WRONG_TOKEN};
use super::error::ApiError;
use super::oidc::BEGIN_PATH;
use crate::app::AppError;
use crate::app::sessions::CookieSecret;
use crate::app::tokens::Holder;
use crate::config::oidc::CALLBACK_PATH;
use crate::store::sessions::SessionHolder;

pub use browser::{Browser, Web};
use cookies::{FORM, SESSION};
use pages::LoginForm;
pub use pages::Pages;

const STYLE: &str = include_str!("../../pages/style.css");
const ICON: &str = include_str!("../../pages/icon.svg");
/// Nothing of elsewhere, nothing inline, in nobody's frame.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; \
                              form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(home))
        .route("/login", get(login_page).post(login))
        .route("/logout", get(logout_page).post(logout))
        .route("/style.css", get(|| async { ([(header::CONTENT_TYPE, "text/css")], STYLE) }))
        .route("/icon.svg", get(|| async { ([(header::CONTENT_TYPE, "image/svg+xml")], ICON) }))
}

/// What is reached without knowing who asks; such a page says itself what it shows to whom.
pub fn is_page(path: &str) -> bool {
    let pages = ["/", "/login", "/logout", BEGIN_PATH, CALLBACK_PATH, "/style.css", "/icon.svg"];
    pages.contains(&path)
}

/// Tells browsers what they may do with an answer, whatever it is.
pub async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With `no-referrer` browsers hide from us too which page sent a form.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[derive(Debug, Deserialize)]
pub(super) struct GoOn {
    #[serde(default)]
    pub(super) next: String,
}

/// Who one is; the first page after logging in.
async fn home(
    State(shared): State<Shared>,
    Extension(browser): Extension<Browser>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Some((secret, session)) = browser.session() else {
        // A link on somebody else's page comes without our cookie. Asked again from a page of
        // ours, the browser sends it.
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
            return shared.web.pages.go_on("/");
        }
        return Ok(Redirect::to("/login").into_response());
    };
    shared.web.pages.home(&shared.app.identity.cluster, secret, session)
}

async fn login_page(
    State(shared): State<Shared>,
    Extension(browser): Extension<Browser>,
    Query(query): Query<GoOn>,
) -> Result<Response, ApiError> {
    let next = local_path(&query.next);
    if browser.session().is_some() {
        return Ok(Redirect::to(next).into_response());
    }
    login_form(&shared, &browser, next, None)
}

/// The form, with what was wrong the last time; its cookie and its hidden field belong together.
fn login_form(
    shared: &Shared,
    browser: &Browser,
    next: &str,
    problem: Option<(StatusCode, &str)>,
) -> Result<Response, ApiError> {
    let secret = match &browser.form {
        Some(secret) => secret.clone(),
        None => CookieSecret::random()?,
    };
    let form = LoginForm {
        form_token: &secret.csrf(),
        next,
        provider: shared.web.provider.as_ref().map(|provider| provider.settings.name.as_str()),
        problem: problem.map(|(_, why)| why),
    };
    let mut response = shared.web.pages.login(&form)?;
    if let Some((status, _)) = problem {
        *response.status_mut() = status;
    }
    let cookie = shared.web.cookies().set(FORM, secret.expose());
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

#[derive(Deserialize)]
struct LoginBody {
    #[serde(default)]
    token: String,
    #[serde(default)]
    csrf: String,
    #[serde(default)]
    next: String,
}

/// Takes a token, and lets the browser go on without it.
async fn login(
    State(shared): State<Shared>,
    Extension(browser): Extension<Browser>,
    origin: Option<Extension<ConnectInfo<Origin>>>,
    headers: HeaderMap,
    Form(body): Form<LoginBody>,
) -> Result<Response, ApiError> {
    let next = local_path(&body.next);
    let again = |status, why: &str| login_form(&shared, &browser, next, Some((status, why)));
    if let Err(why) = browser.check_form(&shared.web, &headers, &body.csrf) {
        return again(StatusCode::FORBIDDEN, &why);
    }
    let from = origin.and_then(|Extension(ConnectInfo(origin))| origin.ip());
    if let Some(wait) = from.and_then(|from| shared.failures.wait(from)) {
        let secs = wait.as_secs() + 1;
        let why = format!("Too many wrong tokens came from your address. Try again in {secs} s.");
        let mut response = again(StatusCode::TOO_MANY_REQUESTS, &why)?;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
        return Ok(response);
    }
    match enter(&shared, &body.token).await? {
        Ok(entered) => {
            if let Some((old, _)) = browser.session() {
                shared.app.close_session(old).await?;
            }
            Ok(admitted(&shared, &entered, Redirect::to(next).into_response()))
        }
        Err(why) => {
            if let Some(from) = from {
                shared.failures.note(from);
            }
            let mut response = again(StatusCode::UNAUTHORIZED, &why)?;
            response.extensions_mut().insert(AskedBy(WRONG_TOKEN.to_owned()));
            Ok(response)
        }
    }
}

/// Somebody who was let in.
pub(super) struct Entered {
    pub(super) name: String,
    pub(super) secret: CookieSecret,
    pub(super) how: String,
    pub(super) lasts: Duration,
}

/// Opens a session with a token, or says in words for its owner why not.
async fn enter(shared: &Shared, text: &str) -> Result<Result<Entered, String>, ApiError> {
    let Ok(token) = Token::parse(text) else {
        return Ok(
            Err("That is no token: one begins with knit_ and has 78 characters.".to_owned()),
        );
    };
    let unknown = || "This token is not known here: it was revoked, or is another cluster's.";
    let holder = shared.app.holder(&token).await.map_err(AppError::from)?;
    let (actor, id): (_, TokenId) = match holder {
        Holder::Known(actor) => (actor, token.id().clone()),
        Holder::Expired => return Ok(Err(format!("Token {} has expired.", token.id()))),
        Holder::Unknown => return Ok(Err(unknown().to_owned())),
    };
    let expires_at = clock::now().plus(SESSION_AGE_MAX);
    let opened = shared.app.open_session(SessionHolder::Token(id), expires_at).await?;
    Ok(opened
        .map(|secret| Entered {
            name: actor.name,
            secret,
            how: "a session by token".to_owned(),
            lasts: SESSION_AGE_MAX,
        })
        .ok_or_else(|| unknown().to_owned()))
}

/// Gives the browser its session; what it had before is nothing any more.
pub(super) fn admitted(shared: &Shared, entered: &Entered, mut response: Response) -> Response {
    let cookies = shared.web.cookies();
    let headers = response.headers_mut();
    headers.append(
        header::SET_COOKIE,
        cookies.set_for(SESSION, entered.secret.expose(), entered.lasts),
    );
    headers.append(header::SET_COOKIE, cookies.clear(FORM));
    let extensions = response.extensions_mut();
    extensions.insert(AskedBy(entered.name.clone()));
    extensions.insert(Subject(entered.how.clone()));
    extensions.insert(Opened);
    response
}

async fn logout_page() -> Redirect {
    Redirect::to("/")
}

#[derive(Deserialize)]
struct LogoutBody {
    #[serde(default)]
    csrf: String,
}

async fn logout(
    State(shared): State<Shared>,
    Extension(browser): Extension<Browser>,
    headers: HeaderMap,
    Form(body): Form<LogoutBody>,
) -> Result<Response, ApiError> {
    let mut response = Redirect::to("/login").into_response();
    let Some((secret, session)) = browser.session() else { return Ok(response) };
    if let Err(why) = browser.check_page(&shared.web, &headers, &body.csrf) {
        let mut refused = shared.web.pages.problem("You are still logged in", &why, "/")?;
        *refused.status_mut() = StatusCode::FORBIDDEN;
        return Ok(refused);
    }
    shared.app.close_session(secret).await?;
    let cookie = shared.web.cookies().clear(SESSION);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response.extensions_mut().insert(AskedBy(session.actor.name.clone()));
    response.extensions_mut().insert(Subject("the session".to_owned()));
    Ok(response)
}
