//! A job: what is to be done, how far it is, and what happened to it.

use crate::exclude::Exclude;
use crate::failure::Failure;
use crate::flavor::Flavor;
use crate::id::{ContainerId, Fence, JobId, ScheduleId};
use crate::image::{Digest, ImageRef};
use crate::name::{NodeName, ProjectName, UserName};
use crate::state::{IllegalTransition, JobState, Transition};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kinds of job. A closed set: a metric label and part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Save a container as an image, and delete it afterwards when asked to.
    Snapshot,
    /// Delete a container.
    Delete,
    /// Launch a container.
    Launch,
    /// Delete an image.
    DeleteImage,
    /// Start a stopped container.
    Start,
    /// Stop a container without deleting it.
    Stop,
    /// Have the registry's tag follow an image that was restored.
    RestoreImage,
    /// Remove from the registry, for good, what can no longer be restored.
    PurgeImage,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Snapshot,
        Self::Delete,
        Self::Launch,
        Self::DeleteImage,
        Self::Start,
        Self::Stop,
        Self::RestoreImage,
        Self::PurgeImage,
    ];

    /// The kind as it stands in JSON and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Delete => "delete",
            Self::Launch => "launch",
            Self::DeleteImage => "delete_image",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::RestoreImage => "restore_image",
            Self::PurgeImage => "purge_image",
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for JobKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|k| k.as_str() == text);
        found.ok_or_else(|| format!("kind is one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// What happens to the container once its image is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It goes on running.
    #[default]
    Keep,
    /// It is deleted, and its bill stops.
    Delete,
    /// It is deleted, and its record kept so that it can be woken by its name.
    Park,
}

impl Then {
    /// Whether the container is removed.
    pub fn removes(self) -> bool {
        self != Self::Keep
    }
}

/// When the container is frozen during a save.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseMode {
    /// As short as the way of saving allows.
    #[default]
    Auto,
    /// From the first byte.
    Always,
    /// Not at all: the image may mix moments, and the job says so.
    Never,
}

/// What is to be done. Two requests are the same when kind, specification, container and user are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JobSpec {
    /// Save a container.
    Snapshot {
        /// Under this `name:tag`.
        image: ImageRef,
        /// What happens to the container then.
        then: Then,
        /// When it is frozen.
        pause: PauseMode,
        /// Whether data in anonymous volumes may be lost when the container is deleted.
        discard_volumes: bool,
        /// What is left out.
        #[serde(default)]
        excludes: Vec<Exclude>,
    },
    /// Delete a container; how it was launched stands in its record.
    Delete,
    /// Launch the container; how stands in its record.
    Launch,
    /// Delete an image.
    DeleteImage {
        /// Which.
        image: ImageRef,
        /// The digest it had at submit.
        digest: Digest,
    },
    /// Start a stopped container.
    Start,
    /// Stop a container.
    Stop,
    /// Have the registry's tag name what the image, restored, names again.
    RestoreImage {
        /// Which.
        image: ImageRef,
        /// What it names again.
        digest: Digest,
    },
    /// Remove a manifest from the registry for good.
    PurgeImage {
        /// The tag that named it last; another image may have it by now.
        image: ImageRef,
        /// The manifest.
        digest: Digest,
    },
}

impl JobSpec {
    /// Its kind.
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Snapshot { .. } => JobKind::Snapshot,
            Self::Delete => JobKind::Delete,
            Self::Launch => JobKind::Launch,
            Self::DeleteImage { .. } => JobKind::DeleteImage,
            Self::Start => JobKind::Start,
            Self::Stop => JobKind::Stop,
            Self::RestoreImage { .. } => JobKind::RestoreImage,
            Self::PurgeImage { .. } => JobKind::PurgeImage,
        }
    }

    /// The image reference that it writes or removes: at most one unfinished job has it. A purge has none: it is about
    /// content that its tag names no more, and must not keep anybody from saving under that tag.
    pub fn image(&self) -> Option<&ImageRef> {
        match self {
            Self::Snapshot { image, .. }
            | Self::DeleteImage { image, .. }
            | Self::RestoreImage { image, .. } => Some(image),
            _ => None,
        }
    }

    /// The image that it is about, as users know it.
    pub fn about_image(&self) -> Option<&ImageRef> {
        match self {
            Self::PurgeImage { image, .. } => Some(image),
            spec => spec.image(),
        }
    }

    /// Whether the container is gone when it succeeds.
    pub fn removes_container(&self) -> bool {
        match self {
            Self::Snapshot { then, .. } => then.removes(),
            Self::Delete => true,
            _ => false,
        }
    }
}

/// The steps of all kinds of job. Each is idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// snapshot: check that it can work before any work.
    Preflight,
    /// snapshot: read the writable layer.
    Read,
    /// snapshot: bring what the registry lacks.
    Upload,
    /// snapshot: manifest and tag.
    Finish,
    /// snapshot: read back the manifest by digest and ask for every blob.
    Verify,
    /// snapshot: the image's record.
    Record,
    /// snapshot: delete the container, the image being proven.
    DeleteContainer,
    /// delete, stop: let the container's processes end.
    Stop,
    /// delete: remove the container.
    Remove,
    /// launch: bring the image to the node.
    Fetch,
    /// launch: create the container.
    Create,
    /// launch, start: start it.
    Start,
    /// launch: it runs and its ports are known.
    Ready,
    /// delete_image: take the tag away.
    Untag,
    /// delete_image, purge_image: take the manifest away when nothing else needs it.
    RemoveManifest,
    /// restore_image: have the tag name what it is to name.
    Retag,
}

impl Step {
    /// The step as it stands in JSON and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Read => "read",
            Self::Upload => "upload",
            Self::Finish => "finish",
            Self::Verify => "verify",
            Self::Record => "record",
            Self::DeleteContainer => "delete_container",
            Self::Stop => "stop",
            Self::Remove => "remove",
            Self::Fetch => "fetch",
            Self::Create => "create",
            Self::Start => "start",
            Self::Ready => "ready",
            Self::Untag => "untag",
            Self::RemoveManifest => "remove_manifest",
            Self::Retag => "retag",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a retry needs in order to go on where the last attempt stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkpoint {
    /// The intent to freeze, made durable before the freeze: whoever finds it thaws the container.
    pub frozen: Option<Frozen>,
    /// Docker's id of the committed image (`engine`).
    pub committed: Option<String>,
    /// The manifest in the registry.
    pub manifest: Option<Digest>,
    /// Bytes of all blobs of the manifest.
    pub size_bytes: Option<u64>,
    /// Layers of the manifest.
    pub layers: Option<u32>,
    /// Whether the manifest and every blob were read back.
    pub verified: bool,
    /// Whether the image's record is written.
    pub recorded: bool,
    /// launch: the Docker container that was created.
    pub created: Option<String>,
    /// When the container was seen to be gone.
    pub removed_at: Option<Timestamp>,
}

/// A container that a job froze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Its Docker id.
    pub docker_id: String,
    /// Since when, by the node's clock.
    pub since: Timestamp,
}

/// How far a step is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes in all, as far as known.
    pub bytes_total: u64,
    /// Rate over the last seconds.
    pub bytes_per_second: u64,
    /// Seconds left at that rate; none while unknown.
    pub eta_seconds: Option<u64>,
}

/// One line of a job's history: why it is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEvent {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// What happened: "submitted", "claimed", "step", "retry", …
    pub event: String,
    /// More about it, in words.
    pub detail: String,
}

/// Most events kept of one job; the oldest but the first goes when one more comes.
pub const EVENTS_MAX: usize = 100;

/// The right to act on a job, until its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The node of the worker that holds it.
    pub node: NodeName,
    /// The run of that worker.
    pub instance: String,
    /// Its end, by the store's clock.
    pub until: Timestamp,
}

/// A job, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What is to be done.
    pub spec: JobSpec,
    /// Who asked.
    pub user: UserName,
    /// For which project.
    pub project: ProjectName,
    /// The node that must do it; none while a launch waits for room, and for jobs that any node may do.
    pub node: Option<NodeName>,
    /// The container it is about.
    pub container: Option<ContainerId>,
    /// The image as users know it: what is saved, deleted, or launched from.
    pub image: Option<String>,
    /// launch: the size that a wake asked for, where it is another than the container had when it was parked.
    #[serde(default)]
    pub flavor: Option<Flavor>,
    /// The schedule that started it.
    #[serde(default)]
    pub schedule: Option<ScheduleId>,
    /// Where it stands.
    pub state: JobState,
    /// The step it is at, or was when it ended.
    pub step: Option<Step>,
    /// Where a retry goes on.
    pub checkpoint: Checkpoint,
    /// Attempts so far. An interrupted one does not count.
    pub attempt: u32,
    /// Attempts it gets.
    pub max_attempts: u32,
    /// The newest claim's fence.
    pub fence: Fence,
    /// The lease, while it runs.
    pub lease: Option<Lease>,
    /// Whether its owner wants it stopped.
    pub cancel_requested: bool,
    /// What a queued job waits for, in words.
    pub waiting_for: Option<String>,
    /// How often it was published since it became due.
    pub published: u32,
    /// Whether it was given out to be published and nothing has happened to it since: a note of its publication
    /// that comes later must not move its due time.
    #[serde(default)]
    pub offered: bool,
    /// How far it is.
    pub progress: Option<Progress>,
    /// Why it failed, or why the last attempt did.
    pub error: Option<Failure>,
    /// What its owner should know: unsaved mounts, the way it was saved, …
    pub notes: Vec<String>,
    /// Its history.
    pub events: Vec<JobEvent>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it was first claimed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When the next attempt is due, while it is `retrying`.
    pub next_attempt_at: Option<Timestamp>,
}

impl Job {
    /// Its kind.
    pub fn kind(&self) -> JobKind {
        self.spec.kind()
    }

    /// Moves it by the state machine, and writes the event into its history.
    pub fn apply(
        &mut self,
        transition: Transition,
        now: Timestamp,
        event: &str,
        detail: impl Into<String>,
    ) -> Result<(), IllegalTransition> {
        self.state = self.state.next(transition)?;
        if self.state != JobState::Running {
            self.lease = None;
        }
        self.next_attempt_at = None;
        self.offered = false;
        self.finished_at = self.state.is_final().then_some(now);
        self.note_event(now, event, detail);
        Ok(())
    }

    /// Writes an event into its history.
    pub fn note_event(&mut self, at: Timestamp, event: &str, detail: impl Into<String>) {
        if self.events.len() >= EVENTS_MAX {
            self.events.remove(1);
        }
        self.events.push(JobEvent { at, event: event.to_owned(), detail: detail.into() });
    }

    /// Whether `other` asks for the very same thing, so that it may join this unfinished job.
    pub fn is_same_request(&self, spec: &JobSpec, container: Option<ContainerId>, user: &UserName) -> bool {
        self.spec == *spec && self.container == container && self.user == *user && !self.cancel_requested
    }

    /// Whether a worker's lease protects it at `now`.
    pub fn is_leased(&self, now: Timestamp) -> bool {
        self.state == JobState::Running && self.lease.as_ref().is_some_and(|l| l.until > now)
    }

    /// Whether another attempt is left.
    pub fn has_attempts_left(&self) -> bool {
        self.attempt < self.max_attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn job() -> Job {
        Job {
            id: JobId(uuid::Uuid::nil()),
            spec: JobSpec::Delete,
            user: UserName::new("ann").unwrap(),
            project: ProjectName::new("p").unwrap(),
            node: None,
            container: Some(ContainerId(1)),
            image: None,
            flavor: None,
            schedule: None,
            state: JobState::Queued,
            step: None,
            checkpoint: Checkpoint::default(),
            attempt: 0,
            max_attempts: 5,
            fence: Fence(0),
            lease: None,
            cancel_requested: false,
            waiting_for: None,
            published: 0,
            offered: false,
            progress: None,
            error: None,
            notes: Vec::new(),
            events: Vec::new(),
            created_at: Timestamp::UNIX_EPOCH,
            started_at: None,
            finished_at: None,
            next_attempt_at: None,
        }
    }

    #[test]
    fn a_save_that_was_recorded_before_there_were_excludes_leaves_nothing_out() {
        let old = r#"{"kind": "snapshot", "image": "a:b", "then": "keep", "pause": "auto", "discard_volumes": false}"#;
        let JobSpec::Snapshot { excludes, .. } = serde_json::from_str(old).unwrap() else { panic!("{old}") };
        assert!(excludes.is_empty());
    }

    #[test]
    fn history_is_bounded_and_keeps_its_beginning() {
        let mut job = job();
        for i in 0..300 {
            job.note_event(Timestamp::UNIX_EPOCH, "step", i.to_string());
        }
        assert_eq!(job.events.len(), EVENTS_MAX);
        assert_eq!((job.events[0].detail.as_str(), job.events[EVENTS_MAX - 1].detail.as_str()), ("0", "299"));
    }

    #[test]
    fn the_lease_ends_with_the_state_that_had_it() {
        let mut job = job();
        job.apply(Transition::Claim, Timestamp::UNIX_EPOCH, "claimed", "").unwrap();
        job.lease = Some(Lease {
            node: NodeName::new("n").unwrap(),
            instance: String::new(),
            until: Timestamp::from_second(30).unwrap(),
        });
        assert!(
            job.is_leased(Timestamp::from_second(29).unwrap())
                && !job.is_leased(Timestamp::from_second(30).unwrap())
        );
        job.apply(Transition::Complete, Timestamp::UNIX_EPOCH, "succeeded", "").unwrap();
        assert!(job.lease.is_none() && job.finished_at.is_some());
        assert!(job.apply(Transition::Claim, Timestamp::UNIX_EPOCH, "claimed", "").is_err());
    }

    #[test]
    fn a_cancelled_request_cannot_be_joined() {
        let mut job = job();
        let ann = UserName::new("ann").unwrap();
        assert!(job.is_same_request(&JobSpec::Delete, Some(ContainerId(1)), &ann));
        assert!(!job.is_same_request(&JobSpec::Stop, Some(ContainerId(1)), &ann));
        job.cancel_requested = true;
        assert!(!job.is_same_request(&JobSpec::Delete, Some(ContainerId(1)), &ann));
    }

    #[test]
    fn names_in_json_agree_with_serde() {
        for kind in JobKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(kind.as_str().parse::<JobKind>().unwrap(), kind);
        }
        assert_eq!(serde_json::to_value(Step::DeleteContainer).unwrap(), Step::DeleteContainer.as_str());
    }
}
