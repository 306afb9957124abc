//! Every error of the API, in one shape.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use knit_rpc::api::{ErrorBody, FieldProblem};
use tracing::Instrument as _;

use crate::app::AppError;

const REQUEST_ID: &str = "x-request-id";

/// An error on its way out; the request's id is added by [`request_id`].
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    fields: Vec<FieldProblem>,
    retry_after: Option<Duration>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), fields: Vec::new(), retry_after: None }
    }

    /// With a word on when to come back.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// A request that says something wrong, by field.
    pub fn invalid(message: impl Into<String>, fields: Vec<FieldProblem>) -> Self {
        Self { fields, ..Self::new(StatusCode::BAD_REQUEST, "invalid", message) }
    }
}

impl From<AppError> for ApiError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::NotFound(why) => Self::new(StatusCode::NOT_FOUND, "not-found", why),
            AppError::Conflict(why) => Self::new(StatusCode::CONFLICT, "conflict", why),
            AppError::Denied(why) => Self::new(StatusCode::FORBIDDEN, "denied", why),
            AppError::Refused(why) => Self::new(StatusCode::FORBIDDEN, "refused", why),
            AppError::NotYet(why) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "not-yet", why),
            AppError::Invalid(fields) => Self::invalid(summary(&fields), fields),
            AppError::Registration(fields) => Self::invalid(registration(&fields), fields),
            AppError::Fields { what, fields } => Self::invalid(wrong(what, &fields), fields),
            AppError::Store(error) if error.is_disk_full() => {
                tracing::error!(error = &error as &dyn std::error::Error, "the disk is full");
                Self::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "disk-full",
                    "the server's disk is full: nothing was stored, what runs goes on; make room \
                     where its state directory is, and try again",
                )
            }
            AppError::Store(_) | AppError::Internal(_) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "a request failed");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "something went wrong in the server; its log says more under this request id",
                )
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// `3 problems in the manifest`.
pub fn summary(fields: &[FieldProblem]) -> String {
    match fields.len() {
        1 => "1 problem in the manifest".to_owned(),
        count => format!("{count} problems in the manifest"),
    }
}

/// Agents log the message alone, so it says everything.
fn registration(fields: &[FieldProblem]) -> String {
    let all: Vec<String> =
        fields.iter().map(|problem| format!("{} {}", problem.field, problem.message)).collect();
    format!("the node cannot be registered: {}", all.join("; "))
}

fn wrong(what: &str, fields: &[FieldProblem]) -> String {
    let all: Vec<String> =
        fields.iter().map(|problem| format!("{} {}", problem.field, problem.message)).collect();
    format!("the {what} cannot be taken: {}", all.join("; "))
}

pub async fn unknown_path(request: Request) -> ApiError {
    let path = request.uri().path();
    let message = format!("there is nothing at {path}; /openapi.json lists what there is");
    ApiError::new(StatusCode::NOT_FOUND, "not-found", message)
}

pub async fn wrong_method(request: Request) -> ApiError {
    let message = format!("{} cannot be done to {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message)
}

/// The id of a request, for whoever handles it.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Gives each request an id, and each error its body.
pub async fn request_id(mut request: Request, next: Next) -> Response {
    let id = new_id();
    request.extensions_mut().insert(RequestId(id.clone()));
    let span = tracing::info_span!(
        "request",
        request.id = id,
        method = %request.method(),
        path = request.uri().path(),
        caller = tracing::field::Empty,
    );
    let mut response = next.run(request).instrument(span).await;
    if response.status().is_client_error() || response.status().is_server_error() {
        response = with_body(response, &id).await;
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

async fn with_body(response: Response, id: &str) -> Response {
    let status = response.status();
    let is_whole = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| {
        [b"application/json".as_slice(), b"text/html"]
            .iter()
            .any(|whole| kind.as_bytes().starts_with(whole))
    });
    let allow = response.headers().get(header::ALLOW).cloned();
    let error = match response.extensions().get::<ApiError>() {
        Some(error) => error.clone(),
        // A handler's own answer, such as the health of the server, or a page.
        None if is_whole => return response,
        None => foreign(status, &text_of(response).await),
    };
    let retry_after = error.retry_after.map(|wait| HeaderValue::from(wait.as_secs() + 1));
    let body = ErrorBody {
        code: error.code.to_owned(),
        message: error.message,
        fields: error.fields,
        request_id: id.to_owned(),
    };
    let mut response = (status, axum::Json(body)).into_response();
    let headers = response.headers_mut();
    let asks = (status == StatusCode::UNAUTHORIZED).then(|| HeaderValue::from_static("Bearer"));
    for (name, value) in [
        (header::ALLOW, allow),
        (header::RETRY_AFTER, retry_after),
        (header::WWW_AUTHENTICATE, asks),
    ] {
        value.and_then(|value| headers.insert(name, value));
    }
    response
}

/// What a refusal by axum says: a query or a path that does not read.
async fn text_of(response: Response) -> String {
    const REFUSAL_BYTES_MAX: usize = 4096;
    let bytes = axum::body::to_bytes(response.into_body(), REFUSAL_BYTES_MAX).await;
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// An error that did not come from our handlers: a body that is too large, a query that does not
/// read, a panic.
fn foreign(status: StatusCode, text: &str) -> ApiError {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(status, "too-large", "the body is larger than 1 MiB")
        }
        status if status.is_client_error() => {
            let reason = status.canonical_reason().unwrap_or("the request makes no sense");
            let why = if text.is_empty() { reason } else { text };
            ApiError::new(status, "bad-request", why.to_owned())
        }
        _ => ApiError::new(
            status,
            "internal",
            "something went wrong in the server; its log says more under this request id",
        ),
    }
}

fn new_id() -> String {
    let mut bytes = [0; 8];
    // An id that is all zeros is a nuisance, not a danger.
    let _ = getrandom::fill(&mut bytes);
    hex::encode(bytes)
}
