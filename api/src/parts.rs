//! What the role is given: it reads no configuration itself.

use crate::Metrics;
use mothball_domain::container::MountRule;
use mothball_domain::flavor::Flavor;
use mothball_domain::notice::reach::Reach;
use mothball_domain::policy::PolicyBounds;
use mothball_domain::retention::RetentionBounds;
use mothball_queue::Queue;
use mothball_store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Ready parts. Clones share them.
#[derive(Debug, Clone)]
pub struct Parts {
    /// What is true.
    pub store: Store,
    /// Wakes workers.
    pub queue: Queue,
    /// What users may ask for, and how much of it.
    pub settings: Arc<Settings>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The other roles of this process, whether they can work.
    pub ready: Vec<ReadyCheck>,
    /// The product's version.
    pub version: String,
}

/// Whether a role of this process can work.
#[derive(Debug, Clone)]
pub struct ReadyCheck {
    /// The role's name: `worker`, `scheduler`.
    pub name: String,
    /// True while it can work.
    pub ready: watch::Receiver<bool>,
}

/// What users may ask for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The currency of all prices.
    pub currency: String,
    /// Base images offered.
    pub catalog: Vec<CatalogEntry>,
    /// Sizes offered.
    pub flavors: Vec<Flavor>,
    /// Mounts of every launched container.
    pub mounts: Vec<MountRule>,
    /// Attempts that a job gets.
    pub max_attempts: u32,
    /// How lately a node must have reported to count as alive.
    pub alive_within: Duration,
    /// What projects' policies may say.
    pub policy_bounds: PolicyBounds,
    /// What projects' retention policies may say.
    pub retention_bounds: RetentionBounds,
    /// How long after its notice an image is removed by such a policy.
    pub notice: Duration,
    /// How long what is deleted or overwritten can be restored.
    pub undo: Duration,
    /// How old a look at a container may be to count as knowing that it is idle.
    pub seen_within: Duration,
    /// Where webhooks may lead.
    pub reach: Reach,
    /// Whom users may ask for help; named in hints.
    pub support_contact: Option<String>,
    /// Whether `/livez`, `/readyz` and `/metrics` are served beside `/v1`, and not on a listener of their own.
    pub health: bool,
    /// Bounds.
    pub limits: Limits,
}

/// A base image that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogEntry {
    /// What users launch it by.
    pub name: String,
    /// What Docker pulls.
    pub image: String,
    /// The type shown for it.
    pub kind: Option<String>,
}

/// Bounds of what one caller, and all of them together, may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Items of a page when none are asked for.
    pub page_default: usize,
    /// Items of a page at most.
    pub page_max: usize,
    /// Calls per second of one key, over time.
    pub rate_per_second: u32,
    /// Calls of one key at once, after a pause.
    pub rate_burst: u32,
    /// How long a call may take.
    pub request_timeout: Duration,
    /// How long a call waits, beyond its own time, for a node that looks at a container.
    pub survey_timeout: Duration,
    /// Calls that wait for a node at once; one more is told to come back.
    pub surveys: usize,
    /// How often such a call looks whether the node has answered.
    pub survey_poll: Duration,
    /// Calls in work at once; more wait for their turn within their time limit.
    pub requests: usize,
    /// Open event streams of all users together.
    pub streams: usize,
    /// Open event streams of one user.
    pub streams_per_user: usize,
    /// How long a call waits for the broker; the scheduler publishes what it does not confirm by then.
    pub publish_timeout: Duration,
    /// How often an event stream looks at its job.
    pub stream_poll: Duration,
    /// Open connections; more wait to be accepted.
    pub connections: usize,
    /// How long a connection may take to send the head of its next call.
    pub head_timeout: Duration,
    /// How long calls in work may go on once the process is told to stop.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            page_default: 50,
            page_max: 200,
            rate_per_second: 200,
            rate_burst: 1000,
            request_timeout: Duration::from_secs(15),
            survey_timeout: Duration::from_secs(20),
            surveys: 32,
            survey_poll: Duration::from_millis(100),
            requests: 256,
            streams: 512,
            streams_per_user: 64,
            publish_timeout: Duration::from_secs(1),
            stream_poll: Duration::from_millis(300),
            connections: 4096,
            head_timeout: Duration::from_mins(1),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}
