//! Reading bodies, paths and queries. Every refusal is a problem that names the field.

use crate::v1::views::{Code, Problem};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, StatusCode, header, request};
use serde::de::{DeserializeOwned, IgnoredAny};

/// Longest name of a field that is repeated.
const FIELD_CHARS_MAX: usize = 100;

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let bytes = read(request, state).await?;
        if !is_json {
            return Err(Problem::new(Code::UnsupportedMediaType, "the body's content type is not JSON"));
        }
        parse(&bytes).map(Self)
    }
}

/// A JSON body that may be left out.
pub(crate) struct MaybeBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for MaybeBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let bytes = read(request, state).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        if !is_json {
            return Err(Problem::new(Code::UnsupportedMediaType, "the body's content type is not JSON"));
        }
        parse(&bytes).map(Self)
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection: BytesRejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(Code::BodyTooLarge, "the body is larger than this server takes")
        }
        _ => Problem::new(Code::BadRequest, "the body broke off"),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// Broken JSON is 400; JSON that is not what the call takes is 422 and names the field.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // The reader would take a list for the fields in their order, which nobody means.
    let is_list = bytes.trim_ascii_start().starts_with(b"[");
    if is_list && serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
        return Err(Problem::new(Code::Invalid, "the body is a list: it must be an object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field: String = error.path().to_string().chars().take(FIELD_CHARS_MAX).collect();
        let inner = error.into_inner();
        let problem = match serde_json::from_slice::<IgnoredAny>(bytes) {
            Err(_) => {
                return Problem::new(Code::BadRequest, format_args!("the body is not valid JSON: {inner}"));
            }
            Ok(_) if inner.is_data() => Problem::new(Code::Invalid, inner),
            // The reader calls a wrong type where it wants one of a set a syntax error.
            Ok(_) => Problem::new(Code::Invalid, format_args!("{field} has the wrong type")),
        };
        if field == "." { problem } else { problem.with_field(&field) }
    })?;
    reader
        .end()
        .map_err(|e| Problem::new(Code::BadRequest, format_args!("the body is not valid JSON: {e}")))?;
    Ok(value)
}

/// The path's one parameter, as text; what is not UTF-8 names nothing.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|_| Problem::not_found("such path"))
    }
}

/// The query.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let unreadable = |e| Problem::new(Code::BadRequest, format_args!("the query cannot be read: {e}"));
        query.map(|query| Self(query.0)).map_err(unreadable)
    }
}
