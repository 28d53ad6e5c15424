//! Which images a project lets go, as JSON.

use super::RemovalNotice;
use jiff::Timestamp;
use mothball_domain::retention;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which images of a project stay. Each rule that is set is a reason to stay: only what no rule keeps goes, after a notice,
/// and never what is pinned or what a container will be launched from. With both null, everything stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionPolicy {
    /// So many images of each name stay, those saved last.
    pub keep_last: Option<u32>,
    /// What was saved, launched from or restored within so many days stays.
    pub unused_days: Option<u32>,
}

/// What a retention policy would do about an image now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetentionForecast {
    /// `name:tag`.
    pub image: String,
    /// What it names.
    pub digest: String,
    /// Who saved it.
    pub created_by: String,
    /// Whether it goes.
    pub goes: bool,
    /// Why it goes (`not_among_last`, `unused`, `not_among_last_and_unused`) or stays (`no_policy`, `pinned`, `needed`,
    /// `among_last`, `used_lately`, `busy`).
    pub because: String,
    /// The same in words.
    pub reason: String,
    /// Its notice: the one that stands, or the one that it would get now.
    pub removal: Option<RemovalNotice>,
    /// Whether its notice stands already.
    pub noticed: bool,
    /// Bytes of all its blobs.
    pub size_bytes: u64,
    /// Bytes that its removal frees at most, once it can no longer be restored: images share layers. 0 where an image that
    /// stays has the same content.
    pub frees_bytes: u64,
    /// When a container was last launched from it.
    pub last_used_at: Option<Timestamp>,
    /// When it was last saved or overwritten.
    pub updated_at: Timestamp,
}

impl From<retention::RetentionPolicy> for RetentionPolicy {
    fn from(policy: retention::RetentionPolicy) -> Self {
        Self { keep_last: policy.keep_last, unused_days: policy.unused_days }
    }
}

impl From<RetentionPolicy> for retention::RetentionPolicy {
    fn from(policy: RetentionPolicy) -> Self {
        Self { keep_last: policy.keep_last, unused_days: policy.unused_days }
    }
}
