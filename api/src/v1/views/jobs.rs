//! A job as JSON.

use super::schemas;
use jiff::Timestamp;
use mothball_domain::failure::FailureClass;
use mothball_domain::id::{ContainerId, JobId, ScheduleId};
use mothball_domain::job::{JobKind, Then};
use mothball_domain::state::JobState;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its id, a UUIDv7.
    #[schema(value_type = uuid::Uuid)]
    pub id: JobId,
    /// What it does.
    #[schema(schema_with = schemas::job_kind)]
    pub kind: JobKind,
    /// Where it stands.
    #[schema(schema_with = schemas::job_state)]
    pub state: JobState,
    /// The step it is at, or was at when it ended.
    pub step: Option<String>,
    /// Attempts so far.
    pub attempt: u32,
    /// Attempts it gets.
    pub max_attempts: u32,
    /// The number of the container it is about.
    #[schema(value_type = Option<u64>)]
    pub container: Option<ContainerId>,
    /// That container's name.
    #[serde(default)]
    pub container_name: Option<String>,
    /// The image that is saved, deleted or launched from, as `name:tag`.
    pub image: Option<String>,
    /// The image's tag alone.
    pub tag: Option<String>,
    /// The image's manifest digest, once it is proven.
    pub digest: Option<String>,
    /// Bytes of all blobs of the image, once known.
    pub size_bytes: Option<u64>,
    /// The node that does it; null while a launch waits for room.
    pub node: Option<String>,
    /// Its project.
    pub project: String,
    /// Who asked for it.
    pub user: String,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When a worker first took it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When the next attempt is due, while it is `retrying`.
    pub next_attempt_at: Option<Timestamp>,
    /// How far the step is; zeros while nothing is known.
    pub progress: JobProgress,
    /// Why it failed, or why the last attempt did.
    pub error: Option<JobError>,
    /// Its history.
    pub events: Vec<JobEvent>,
    /// What a queued job waits for, in words.
    #[serde(default)]
    pub waiting_for: Option<String>,
    /// What its owner should know: mounts that are not saved, the way it was saved, …
    #[serde(default)]
    pub notes: Vec<String>,
    /// Whether it is to be stopped.
    #[serde(default)]
    pub cancel_requested: bool,
    /// The schedule that started it.
    #[serde(default)]
    #[schema(value_type = Option<uuid::Uuid>)]
    pub schedule: Option<ScheduleId>,
    /// snapshot: what happens to the container once the image is proven.
    #[serde(default)]
    #[schema(schema_with = schemas::then)]
    pub then: Option<Then>,
    /// snapshot: what is left out.
    #[serde(default)]
    pub excludes: Vec<String>,
}

/// How far a step is, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobProgress {
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes in all, as far as known.
    pub bytes_total: u64,
    /// Rate over the last seconds.
    pub bytes_per_second: u64,
    /// Seconds left at that rate; null while unknown.
    pub eta_seconds: Option<u64>,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobError {
    /// What kind of thing went wrong.
    #[schema(schema_with = schemas::failure_class)]
    pub class: FailureClass,
    /// One sentence.
    pub message: String,
    /// What the reader can do.
    pub hint: String,
}

/// One line of a job's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobEvent {
    /// When.
    pub at: Timestamp,
    /// What happened: `submitted`, `claimed`, …
    pub event: String,
    /// More about it.
    pub detail: String,
}
