//! Schedules as JSON: what they are, what their calls take, and what became of their runs.

use super::requests::given;
use super::schemas;
use jiff::Timestamp;
use mothball_domain::id::{ContainerId, JobId, ScheduleId};
use mothball_domain::schedule::run::RunOutcome;
use mothball_domain::schedule::{Missed, ScheduleAction};
use mothball_domain::state::JobState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A schedule.
#[expect(clippy::struct_excessive_bools, reason = "each is a field of its own in JSON")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    pub id: ScheduleId,
    /// The container it is about; null where it chooses by labels or is about all.
    #[schema(value_type = Option<u64>)]
    pub container: Option<ContainerId>,
    /// That container's name.
    #[serde(default)]
    pub container_name: Option<String>,
    /// It is about the containers of the project that have all of these labels when it fires.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether it is about all containers of the project that its maker may change.
    #[serde(default)]
    pub all_containers: bool,
    /// What it does.
    #[schema(schema_with = schemas::schedule_action)]
    pub action: ScheduleAction,
    /// When: minute, hour, day of month, month, day of week.
    pub cron: String,
    /// The IANA time zone that `cron` is read in.
    pub timezone: String,
    /// Whether it fires.
    pub enabled: bool,
    /// When it is due next; null while it is switched off. With `skip_next` that run is left out.
    pub next_at: Option<Timestamp>,
    /// Whether the next run is left out.
    pub skip_next: bool,
    /// The last job that it started.
    #[schema(value_type = Option<uuid::Uuid>)]
    pub last_job: Option<JobId>,
    /// The planned time of the next run, where that is postponed.
    #[serde(default)]
    pub postponed_from: Option<Timestamp>,
    /// What becomes of runs that were missed while no scheduler ran.
    #[serde(default)]
    #[schema(schema_with = schemas::missed)]
    pub missed: Missed,
    /// How long a run waits for jobs in its way.
    #[serde(default)]
    pub patience_seconds: u32,
    /// save, park: the image's tag; null for one of the planned time.
    #[serde(default)]
    pub tag: Option<String>,
    /// wake: another size than the container had.
    #[serde(default)]
    pub flavor: Option<String>,
    /// park: whether data in anonymous volumes may be lost.
    #[serde(default)]
    pub discard_volumes: bool,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Why Mothball switched it off.
    #[serde(default)]
    pub disabled_because: Option<String>,
    /// Its project.
    pub project: String,
    /// Who made it; its jobs are theirs.
    pub user: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When somebody changed it last.
    pub updated_at: Timestamp,
}

/// A container in a body: its number, or its name within the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "container is a number or a name")]
pub enum ContainerRef {
    /// Its number.
    Number(u64),
    /// Its name, or its number as text.
    Name(String),
}

/// Makes a schedule: for one container, for those with some labels, or for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRequest {
    /// The container, by number or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schemas::container_ref)]
    pub container: Option<ContainerRef>,
    /// Instead: containers of the project that have all of these labels when it fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Instead: all containers of the project.
    #[serde(default)]
    pub all_containers: bool,
    /// What it does.
    #[schema(schema_with = schemas::schedule_action)]
    pub action: ScheduleAction,
    /// When: minute, hour, day of month, month, day of week.
    #[schema(example = "0 20 * * 1-5")]
    pub cron: String,
    /// The IANA time zone that `cron` is read in.
    #[serde(default = "utc")]
    #[schema(example = "Asia/Taipei")]
    pub timezone: String,
    /// Whether it fires from now on.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What becomes of runs that were missed while no scheduler ran.
    #[serde(default)]
    #[schema(schema_with = schemas::missed)]
    pub missed: Missed,
    /// How long a run waits for jobs in its way; an hour when absent, a day at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience_seconds: Option<u32>,
    /// save, park of one container: the image's tag, overwritten each time; one of the planned time when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// wake: another size than the container had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// park: whether data in anonymous volumes may be lost.
    #[serde(default)]
    pub discard_volumes: bool,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// The project; see the parameter `project`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn yes() -> bool {
    true
}

/// Changes a schedule; absent fields stay as they are. Another time moves the next run at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SchedulePatch {
    /// The container, by number or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schemas::container_ref)]
    pub container: Option<ContainerRef>,
    /// Instead: containers of the project that have all of these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Instead, where true: all containers of the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_containers: Option<bool>,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schemas::schedule_action)]
    pub action: Option<ScheduleAction>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The IANA time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Whether it fires; what goes by while it is switched off is not missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether the next run is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_next: Option<bool>,
    /// What becomes of missed runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schemas::missed)]
    pub missed: Option<Missed>,
    /// How long a run waits for jobs in its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience_seconds: Option<u32>,
    /// The image's tag; null for one of the planned time.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tag: Option<Option<String>>,
    /// Another size than the container had; null for that one.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub flavor: Option<Option<String>>,
    /// Whether data in anonymous volumes may be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discard_volumes: Option<bool>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Leaves the next run out, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SkipRequest {
    /// Whether it is left out; true when absent.
    #[serde(default = "yes")]
    pub skip: bool,
}

impl Default for SkipRequest {
    fn default() -> Self {
        Self { skip: true }
    }
}

/// Moves the next run, once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PostponeRequest {
    /// To when: later than planned, before the run after it; null ends that.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// A run that is to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpcomingRun {
    /// When.
    pub at: Timestamp,
    /// The same in the schedule's own zone, as `YYYY-MM-DD HH:MM:SS +HH:MM`.
    pub local: String,
    /// The schedule.
    #[schema(value_type = uuid::Uuid)]
    pub schedule: ScheduleId,
    /// What it does.
    #[schema(schema_with = schemas::schedule_action)]
    pub action: ScheduleAction,
    /// To which container; null where it chooses several.
    #[schema(value_type = Option<u64>)]
    pub container: Option<ContainerId>,
    /// What it is about, in words: a container's name, labels, or all.
    pub about: String,
}

/// When a pattern fires in a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchedulePreview {
    /// The pattern.
    pub cron: String,
    /// The zone, in its usual spelling.
    pub timezone: String,
    /// The next times.
    pub next: Vec<Timestamp>,
    /// The same in that zone, as `YYYY-MM-DD HH:MM:SS +HH:MM`.
    pub local: Vec<String>,
}

/// A run that has been, or that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleRun {
    /// For when it was planned: with the schedule, its name.
    pub planned_at: Timestamp,
    /// When it began.
    pub fired_at: Timestamp,
    /// When nothing of it waited any more.
    pub finished_at: Option<Timestamp>,
    /// What it did.
    #[schema(schema_with = schemas::schedule_action)]
    pub action: ScheduleAction,
    /// What it came to: the most telling of its containers' outcomes.
    #[schema(schema_with = schemas::run_outcome)]
    pub outcome: RunOutcome,
    /// Why, in a sentence.
    pub reason: Option<String>,
    /// Runs that were missed before it, or with it.
    pub missed: u32,
    /// What was done to each container.
    pub containers: Vec<RunContainer>,
}

/// What a run did to one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunContainer {
    /// The container.
    #[schema(value_type = u64)]
    pub container: ContainerId,
    /// Its name then.
    pub name: String,
    /// What came of it.
    #[schema(schema_with = schemas::run_outcome)]
    pub outcome: RunOutcome,
    /// The job that was started or joined.
    #[schema(value_type = Option<uuid::Uuid>)]
    pub job: Option<JobId>,
    /// Where that job stands; null where it is no longer kept.
    #[schema(schema_with = schemas::job_state)]
    pub job_state: Option<JobState>,
    /// Why there is no job, or what it waits for.
    pub reason: Option<String>,
}
