//! The store port: what is true. Jobs, containers, images, nodes, people and the audit trail.
//!
//! The rules of every operation are written once, in [`ops`](self), over a small map with revisions and
//! ordered indexes; Redis and one SQLite file hold that map (see `docs/adr/0001`). An operation reads what it
//! needs, decides by the pure rules of `mothball-domain`, and commits on the condition that nothing it
//! read has changed; otherwise it decides again. So each operation below is atomic, on both adapters alike.
//!
//! Callers pass durations; the store adds its own clock (Redis `TIME`; the one process of the embedded store), so
//! the clocks of nodes change nothing. Whoever holds a job writes with its fence, and the store refuses any
//! fence but the newest.

mod clock;
mod db;
mod error;
mod keys;
mod metrics;
mod ops;

pub use clock::HeldClock;
pub use db::redis::RedisSettings;
pub use error::StoreError;
pub use metrics::JobMetrics;
pub use ops::adopted::SeenLaunch;
pub use ops::audit::AuditQuery;
pub use ops::budget::Spent;
pub use ops::cancel::{Cancelled, Retried};
pub use ops::claim::{Checkpointed, Claim, Renewal};
pub use ops::containers::{AdoptedContainer, ContainerChange, ContainerQuery, Observed};
pub use ops::costs::{Ledger, LedgerQuery};
pub use ops::due::{Attend, Attention};
pub use ops::images::{ImageDraft, Recorded};
pub use ops::jobs::{JobCount, JobQuery};
pub use ops::need::Need;
pub use ops::nodes::{NodeRun, Registered};
pub use ops::notices::deliveries::Taken;
pub use ops::notices::webhooks::{WebhookChange, WebhookDraft};
pub use ops::people::KeyDraft;
pub use ops::police::{Policed, Policing};
pub use ops::purge::{Purged, Removal};
pub use ops::refusal::QuotaUse;
pub use ops::retention::{Forecast, Retained, Retaining};
pub use ops::schedules::run::{RunAttention, RunStep};
pub use ops::schedules::{ScheduleChange, ScheduleDraft, ScheduleMade, ScheduleQuery};
pub use ops::settle::{Effect, Outcome, Settled};
pub use ops::submit::{Idempotency, NewContainer, Submission, Submitted, Target};
pub use ops::surveys::{AskedFor, SURVEY_TTL, SurveyDraft};
pub use ops::undo::{Restorable, Restore, RestoreTo, Restored};
pub use ops::usage::Looked;

use clock::Clock;
use db::Db;
use db::embedded::Embedded;
use db::redis::Redis;
use std::path::Path;
use std::sync::Arc;

/// A page of a list, and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, newest first unless the list says otherwise.
    pub items: Vec<T>,
    /// The cursor of the next page; none on the last.
    pub next: Option<String>,
}

/// The store. Clones share one connection.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
    metrics: Option<Arc<JobMetrics>>,
    /// Held by the one operation of this process whose turn it is, among those that keep losing to others.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Store {
    /// Opens or makes the embedded store at `path`; a second process that opens it gets
    /// [`StoreError::InUse`].
    pub fn embedded(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(Db::Embedded(Embedded::open(path, Clock::machine())?)))
    }

    /// The embedded store for a host that keeps time itself, as a test does that plays a year: every time is `clock`'s, and
    /// calls are carried out on the thread that makes them, so that on one thread the same calls in the same order come
    /// to the same. Nothing is flushed to disk.
    pub fn embedded_with_clock(path: &Path, clock: &HeldClock) -> Result<Self, StoreError> {
        Ok(Self::of(Db::Embedded(Embedded::open(path, Clock::Held(clock.clone()))?)))
    }

    /// Uses Redis; connects at the first call.
    pub fn redis(settings: RedisSettings) -> Result<Self, StoreError> {
        Ok(Self::of(Db::Redis(Redis::new(settings)?)))
    }

    fn of(db: Db) -> Self {
        Self { db, metrics: None, turn: Arc::default() }
    }

    /// Whether the store answers, and the time by its clock.
    pub async fn now(&self) -> Result<jiff::Timestamp, StoreError> {
        Ok(self.db.read(Vec::new()).await?.now)
    }

    /// What an operator should change about the server, in sentences.
    pub async fn advice(&self) -> Result<Vec<String>, StoreError> {
        match &self.db {
            Db::Redis(redis) => redis.advice().await,
            Db::Embedded(_) => Ok(Vec::new()),
        }
    }

    /// The adapter's name, for logs and `doctor`.
    pub fn adapter(&self) -> &'static str {
        match self.db {
            Db::Redis(_) => "redis",
            Db::Embedded(_) => "embedded",
        }
    }
}
