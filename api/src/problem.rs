//! Making and answering problems. Nothing else answers an error: whatever slips past is turned into one by the
//! guard.

use crate::v1::views::{Code, Problem};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mothball_domain::id::JobId;
use mothball_store::StoreError;
use std::fmt::Display;

/// Longest detail shown, in characters: it may repeat what the caller sent.
const DETAIL_CHARS_MAX: usize = 600;

/// The media type of problems.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

impl Code {
    /// Status, title, and what the caller can do where the call itself says no better.
    fn words(self) -> (StatusCode, &'static str, Option<&'static str>) {
        use StatusCode as S;
        match self {
            Self::Unauthenticated => (
                S::UNAUTHORIZED,
                "Not signed in",
                Some("Send a key that works: `Authorization: Bearer KEY` or `x-api-key: KEY`."),
            ),
            Self::Forbidden => {
                (S::FORBIDDEN, "Not allowed", Some("Ask its owner, an admin of the project, or an operator."))
            }
            Self::NotFound => (S::NOT_FOUND, "Not found", Some("List what there is; check the project.")),
            Self::MethodNotAllowed => {
                (S::METHOD_NOT_ALLOWED, "Method not allowed", Some("See /v1/openapi.json."))
            }
            Self::BadRequest => (S::BAD_REQUEST, "The request cannot be read", None),
            Self::UnsupportedMediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "The body is not JSON",
                Some("Send `content-type: application/json`."),
            ),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "The body is too large", None),
            Self::Invalid => (S::UNPROCESSABLE_ENTITY, "A field does not keep its rule", None),
            Self::ProjectRequired => (
                S::UNPROCESSABLE_ENTITY,
                "Which project?",
                Some("Name it with `?project=` (command line: `--project`)."),
            ),
            Self::UnknownImage => (S::UNPROCESSABLE_ENTITY, "No such image", None),
            Self::UnknownFlavor => (S::UNPROCESSABLE_ENTITY, "No such flavor", None),
            Self::UnknownMount => (S::UNPROCESSABLE_ENTITY, "No such mount", None),
            Self::Conflict => {
                (S::CONFLICT, "Another job is in the way", Some("Wait for that job, or cancel it."))
            }
            Self::NameTaken => (S::CONFLICT, "The name is taken", Some("Choose another name.")),
            Self::CatalogName => {
                (S::CONFLICT, "The catalogue has an image of this name", Some("Choose another tag."))
            }
            Self::Protected => {
                (S::CONFLICT, "The container is protected", Some("Switch its protection off first."))
            }
            Self::NotNow => (S::CONFLICT, "Not possible as things stand", None),
            Self::Quota => (
                S::CONFLICT,
                "The quota is used up",
                Some("Delete images that are no longer needed, or ask for more quota."),
            ),
            Self::NodeSilent => (
                S::CONFLICT,
                "The node does not answer",
                Some("Ask the operator to look at the node's worker."),
            ),
            Self::SurveyTimeout => (
                S::GATEWAY_TIMEOUT,
                "The node took too long to look",
                Some("Ask again in a moment: the node may be busy. A save itself does not wait for this."),
            ),
            Self::SurveyFailed => (S::CONFLICT, "The node could not look at the container", None),
            Self::IdempotencyConflict => (
                S::UNPROCESSABLE_ENTITY,
                "The idempotency key came before with another request",
                Some("Use a fresh key for a new request."),
            ),
            Self::RateLimited => {
                (S::TOO_MANY_REQUESTS, "Too many calls", Some("Wait a second and go slower."))
            }
            Self::TooManyStreams => (
                S::TOO_MANY_REQUESTS,
                "Too many event streams",
                Some("Close some, or ask for the job instead."),
            ),
            Self::Timeout => (S::SERVICE_UNAVAILABLE, "The call took too long", Some("Try again.")),
            Self::Unavailable => {
                (S::SERVICE_UNAVAILABLE, "The server cannot work now", Some("Try again in a moment."))
            }
            Self::NotImplemented => (S::NOT_IMPLEMENTED, "This version cannot do it", None),
            Self::Internal => (
                S::INTERNAL_SERVER_ERROR,
                "A defect of the server",
                Some("Try again; if it happens again, report it with the instance."),
            ),
        }
    }

    /// The code as it stands in JSON.
    pub(crate) fn as_str(self) -> String {
        serde_json::to_value(self).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Display) -> Self {
        let (status, title, hint) = code.words();
        Self {
            kind: format!("urn:mothball:problem:{}", code.as_str()),
            title: title.to_owned(),
            status: status.as_u16(),
            code,
            detail: detail.to_string().chars().take(DETAIL_CHARS_MAX).collect(),
            hint: hint.map(str::to_owned),
            instance: None,
            field: None,
            job: None,
        }
    }

    /// There is no such thing, or the caller may not know of it: both look the same.
    pub(crate) fn not_found(what: impl Display) -> Self {
        Self::new(Code::NotFound, format_args!("there is no {what}"))
    }

    /// A field does not keep its rule.
    pub(crate) fn invalid(field: &str, why: impl Display) -> Self {
        Self { field: Some(field.to_owned()), ..Self::new(Code::Invalid, why) }
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn with_field(self, field: &str) -> Self {
        Self { field: Some(field.to_owned()), ..self }
    }

    pub(crate) fn with_job(self, job: JobId) -> Self {
        Self { job: Some(job), ..self }
    }

    /// The problem for a bare status that something below us answered.
    pub(crate) fn from_status(status: StatusCode) -> Self {
        let code = match status {
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::FORBIDDEN => Code::Forbidden,
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
            StatusCode::UNPROCESSABLE_ENTITY => Code::Invalid,
            StatusCode::TOO_MANY_REQUESTS => Code::RateLimited,
            s if s.is_client_error() => Code::BadRequest,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            _ => Code::Internal,
        };
        Self { status: status.as_u16(), ..Self::new(code, code.words().1) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        // The guard writes the request's id into it.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    /// The log has the reason; the caller learns only whether to try again.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Contended(_) => {
                tracing::warn!(%error, "the store did not do it");
                Self::new(Code::Unavailable, "the store cannot be used at the moment")
            }
            StoreError::TooMuch(_) => {
                Self::new(Code::Invalid, error).with_hint("Ask for a shorter time, or for one project.")
            }
            StoreError::Corrupt(_) | StoreError::Settings(_) | StoreError::InUse(_) => {
                tracing::error!(%error, "the store is not as it should be");
                Self::new(Code::Internal, "the server met a defect; its log has more")
            }
        }
    }
}
