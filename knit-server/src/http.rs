//! The REST API. Every path answers under `/v1` and without it.
//!
//! ```text
//! request ─> request id, span ─> catch panic ─> to the end ─> audit ─> who asks ─> whole body
//!                    │                                                  ─> router ─> handler ─> app
//!                    └ an error of any origin leaves as ErrorBody with that id; only the pages
//!                      of `sessions`, which browsers show, are HTML
//! ```

pub mod access;
pub mod audit;
pub mod connections;
pub mod deployments;
mod document;
pub mod error;
pub mod events;
pub mod health;
pub mod listen;
pub mod networks;
pub mod nodes;
pub mod oidc;
mod params;
pub mod projects;
pub mod registries;
pub mod rollouts;
pub mod secrets;
pub mod sessions;
pub mod tokens;
pub mod volumes;
mod whole;
pub mod why;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use axum::{Json, Router, middleware};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use access::Failures;
use sessions::Web;

/// What handlers see.
#[derive(Clone)]
pub struct Shared {
    pub app: Arc<App>,
    /// Wrong tokens of late.
    pub failures: Arc<Failures>,
    /// What browsers are shown.
    pub web: Arc<Web>,
    /// Ends streams, so that the server can stop.
    pub stop: CancellationToken,
}

impl Shared {
    pub fn new(app: Arc<App>, stop: CancellationToken) -> Self {
        Self { app, failures: Arc::default(), web: Arc::default(), stop }
    }

    /// With what was configured for browsers.
    #[must_use]
    pub fn with_web(self, web: Web) -> Self {
        Self { web: Arc::new(web), ..self }
    }
}

/// Returns the whole API.
pub fn router(shared: Shared) -> Router {
    let (versioned, mut document) =
        OpenApiRouter::with_openapi(document::head()).nest("/v1", api()).split_for_parts();
    document::finish(&mut document);
    let (plain, _) = api().split_for_parts();
    let document = Arc::new(document);
    let serve_document = move || {
        let document = Arc::clone(&document);
        async move { Json((*document).clone()) }
    };
    versioned
        .merge(plain)
        .route("/openapi.json", get(serve_document.clone()))
        .route("/v1/openapi.json", get(serve_document))
        .merge(sessions::routes())
        .merge(oidc::routes())
        .fallback(error::unknown_path)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(middleware::from_fn(whole::body))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(shared.clone(), access::identify))
        .layer(middleware::from_fn_with_state(shared.clone(), audit::write))
        .layer(middleware::from_fn(whole::end))
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn(error::request_id))
        .layer(middleware::from_fn(sessions::protect))
        .with_state(shared)
}

fn api() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(deployments::list, deployments::submit))
        .routes(routes!(deployments::show, deployments::remove))
        .routes(routes!(rollouts::history))
        .routes(routes!(rollouts::rollback))
        .routes(routes!(rollouts::scale))
        .routes(routes!(rollouts::restart))
        .routes(routes!(rollouts::stop))
        .routes(routes!(rollouts::start))
        .routes(routes!(rollouts::show))
        .routes(routes!(rollouts::steer))
        .routes(routes!(why::why))
        .routes(routes!(why::why_not))
        .routes(routes!(volumes::list))
        .routes(routes!(volumes::show, volumes::remove))
        .routes(routes!(networks::list, networks::create))
        .routes(routes!(networks::show, networks::remove))
        .routes(routes!(secrets::list))
        .routes(routes!(secrets::history, secrets::set, secrets::remove))
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::show, projects::remove))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::show, nodes::patch, nodes::remove))
        .routes(routes!(registries::list, registries::put))
        .routes(routes!(registries::remove))
        .routes(routes!(registries::test))
        .routes(routes!(registries::pull))
        .routes(routes!(nodes::register))
        .routes(routes!(nodes::farewell))
        .routes(routes!(nodes::approve))
        .routes(routes!(nodes::reject))
        .routes(routes!(nodes::join_token))
        .routes(routes!(nodes::revoke_join_token))
        .routes(routes!(nodes::instances))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(tokens::whoami))
        .routes(routes!(audit::list))
        .routes(routes!(audit::check))
        .routes(routes!(events::events))
        .routes(routes!(health::ping))
        .routes(routes!(health::identity))
        .routes(routes!(health::healthz))
}
