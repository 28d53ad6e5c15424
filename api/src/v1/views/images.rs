//! An image as JSON.

use jiff::Timestamp;
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::retention;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A custom image of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// Its name: the base image's.
    pub name: String,
    /// Its tag: the user's.
    pub tag: String,
    /// The manifest's digest in the registry.
    pub digest: String,
    /// Bytes of all its blobs.
    pub size_bytes: u64,
    /// Who saved it last.
    pub created_by: String,
    /// When the tag was first saved.
    pub created_at: Timestamp,
    /// When it was last saved or overwritten.
    pub updated_at: Timestamp,
    /// When a container was last launched from it.
    pub last_used_at: Option<Timestamp>,
    /// The container it was saved from.
    #[schema(value_type = Option<u64>)]
    pub source_container: Option<ContainerId>,
    /// Number of layers.
    pub layers: u32,
    /// Whether clean-up leaves it alone.
    pub pinned: bool,
    /// What a plain `docker pull` takes.
    pub reference: String,
    /// The project it belongs to.
    #[serde(default)]
    pub project: String,
    /// The image that its container was launched from.
    #[serde(default)]
    pub base: Option<String>,
    /// The job that saved it.
    #[serde(default)]
    #[schema(value_type = Option<uuid::Uuid>)]
    pub job: Option<JobId>,
    /// What the tag was before, newest first, as far as it is still there.
    #[serde(default)]
    pub previous: Vec<OverwrittenImage>,
    /// That it is about to be removed by its project's retention policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal: Option<RemovalNotice>,
    /// When it was deleted; only among what can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// Who deleted it; its saver where the project's retention policy did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_by: Option<String>,
    /// Why: `deleted` by somebody, or by the `retention` policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_because: Option<String>,
    /// Until when the deleted image can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restorable_until: Option<Timestamp>,
}

/// That an image is about to be removed by its project's retention policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovalNotice {
    /// Why: `not_among_last`, `unused` or `not_among_last_and_unused`.
    pub reason: String,
    /// When its owner was told.
    pub noticed_at: Timestamp,
    /// When it is removed, unless it is pinned or used, or the policy changes.
    pub remove_at: Timestamp,
}

impl From<retention::RemovalNotice> for RemovalNotice {
    fn from(notice: retention::RemovalNotice) -> Self {
        Self {
            reason: notice.reason.as_str().to_owned(),
            noticed_at: notice.noticed_at,
            remove_at: notice.remove_at,
        }
    }
}

/// What a tag was before it was overwritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OverwrittenImage {
    /// The manifest that was overwritten.
    pub digest: String,
    /// Its size.
    pub size_bytes: u64,
    /// When it was overwritten.
    pub replaced_at: Timestamp,
    /// Until when the tag can be set back on it; null for one of a version that knew no end.
    #[serde(default)]
    pub restorable_until: Option<Timestamp>,
}

/// A base image that the platform offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogImage {
    /// What to launch it by.
    pub name: String,
    /// What Docker pulls.
    pub image: String,
    /// The image type that is shown for it: `TensorRT`, …
    #[serde(rename = "type")]
    pub kind: Option<String>,
}
