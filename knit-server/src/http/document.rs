//! The OpenAPI document: what the handlers say of themselves, and what holds for all of them.

use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, Ref, RefOr, ResponseBuilder};

use super::access;

/// Name of the token among the security schemes.
const TOKEN: &str = "token";
/// Name of the error among the responses.
const ERROR: &str = "Error";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Knit",
        description = "Deploys containers on the hosts of a WireGuard mesh.",
        license(name = "MIT OR Apache-2.0")
    ),
    components(schemas(knit_rpc::api::ErrorBody))
)]
struct Head;

/// The document before the handlers are known.
pub(super) fn head() -> utoipa::openapi::OpenApi {
    Head::openapi()
}

/// Adds what holds for every operation: the token that it takes, and the one form of errors.
pub(super) fn finish(document: &mut utoipa::openapi::OpenApi) {
    let components = document.components.get_or_insert_with(Components::new);
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme(TOKEN, token);
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    let error = ResponseBuilder::new()
        .description("What is wrong, in words; `request_id` stands in the server's log")
        .content("application/json", body)
        .build();
    components.responses.insert(ERROR.to_owned(), RefOr::T(error));
    for (path, item) in &mut document.paths.paths {
        let is_open = access::is_open(path);
        for operation in operations(item) {
            complete(operation, is_open);
        }
    }
}

fn complete(operation: &mut Operation, is_open: bool) {
    let requirement = if is_open {
        Vec::new()
    } else {
        vec![SecurityRequirement::new(TOKEN, Vec::<String>::new())]
    };
    operation.security = Some(requirement);
    let of_tokens = ["401", "403", "429"].into_iter().filter(|_| !is_open);
    for status in of_tokens.chain(["default"]) {
        let error = RefOr::Ref(Ref::from_response_name(ERROR));
        operation.responses.responses.entry(status.to_owned()).or_insert(error);
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch]
        .into_iter()
        .filter_map(Option::as_mut)
}
