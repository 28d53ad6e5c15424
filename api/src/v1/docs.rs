//! What the description says beside the calls themselves.

use super::views::Problem;
use axum::http::header;
use axum::response::IntoResponse;
use std::collections::BTreeMap;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi as _, ToSchema};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Mothball",
        version = "1",
        description = "Puts GPU development containers away and brings them back. Calls that start work answer 202 \
with a job; follow it at `/v1/jobs/{id}` or its events. Refusals are RFC 9457 problems with a stable `code`."
    ),
    components(schemas(Problem)),
    security(("bearer" = []), ("key" = [])),
    modifiers(&Keys)
)]
struct Head;

struct Keys;

impl Modify for Keys {
    fn modify(&self, described: &mut OpenApi) {
        let components = described.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let key = ApiKeyValue::new("x-api-key");
        components.add_security_scheme("key", SecurityScheme::ApiKey(ApiKey::Header(key)));
    }
}

pub(super) fn head() -> OpenApi {
    Head::openapi()
}

pub(super) fn answer(text: String) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], text)
}

/// Every call may be refused with a problem.
pub(crate) struct Refused;

impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let schema = Ref::from_schema_name(Problem::name());
        let content = Content::new(Some(schema));
        let refused = ResponseBuilder::new()
            .description("The call is refused; `code` says why.")
            .content(crate::problem::MEDIA_TYPE, content)
            .build();
        BTreeMap::from([("default".to_owned(), RefOr::T(refused))])
    }
}
