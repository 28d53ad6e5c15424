//! What went wrong with a call: RFC 9457 `application/problem+json`, with a stable code.

use mothball_domain::id::JobId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a call was refused. A closed set: clients branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// No key, or one that does not work.
    Unauthenticated,
    /// The caller may see it but not do this with it.
    Forbidden,
    /// There is no such thing, or the caller may not know of it.
    NotFound,
    /// The path does not know the method.
    MethodNotAllowed,
    /// The request cannot be read: broken JSON, a bad header, a bad query.
    BadRequest,
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The request can be read, but a field does not keep its rule.
    Invalid,
    /// The caller is in several projects, or in none, and named none.
    ProjectRequired,
    /// The image to launch from is neither the project's nor the catalogue's.
    UnknownImage,
    /// There is no such flavor.
    UnknownFlavor,
    /// There is no such configured mount.
    UnknownMount,
    /// Another unfinished job is in the way; `job` names it.
    Conflict,
    /// Another thing has the name.
    NameTaken,
    /// The tag would take the name of a catalogue entry.
    CatalogName,
    /// The container is protected from deletion.
    Protected,
    /// The state of the thing does not allow it.
    NotNow,
    /// The project's quota does not allow it.
    Quota,
    /// The worker of the container's node does not report, or does not hear.
    NodeSilent,
    /// The node took too long to look at the container.
    SurveyTimeout,
    /// The node could not look at the container.
    SurveyFailed,
    /// The idempotency key came before with another request.
    IdempotencyConflict,
    /// Too many calls with this key.
    RateLimited,
    /// Too many event streams are open.
    TooManyStreams,
    /// The call took longer than its limit.
    Timeout,
    /// The server cannot work now; the call may be repeated.
    Unavailable,
    /// This version cannot do it.
    NotImplemented,
    /// A defect of the server.
    Internal,
}

/// What went wrong with a call (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URN of the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: Code,
    /// What went wrong with this very call.
    pub detail: String,
    /// What the caller can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The request's id, which the server's log has too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The field that does not keep its rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The job that is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    pub job: Option<JobId>,
}
