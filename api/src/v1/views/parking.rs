//! What a project lets Mothball do by itself, as JSON.

use jiff::Timestamp;
use mothball_domain::id::ContainerId;
use mothball_domain::policy::{ParkPolicy, Warning};
use mothball_domain::usage;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// When a project's containers are warned of and parked. What is null is never a reason.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ParkingPolicy {
    /// Containers that are idle.
    pub idle: Option<IdleRule>,
    /// Containers that have been billed for so many seconds without a break.
    pub lifetime_seconds: Option<u64>,
    /// All containers, once the project has cost so much in a calendar month (UTC). A decimal as text.
    pub budget_per_month: Option<String>,
    /// Seconds between the warning and the park; null for the usual half hour.
    pub grace_seconds: Option<u64>,
}

/// When a container counts as idle: every threshold that is set must be undercut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdleRule {
    /// Busy GPUs are activity from this share on, 0 to 1.
    #[serde(default)]
    pub gpu_below: Option<f64>,
    /// CPU cores in use are activity from this number on.
    #[serde(default)]
    pub cpu_below: Option<f64>,
    /// Bytes a second over its networks are activity from this rate on.
    #[serde(default)]
    pub network_below: Option<f64>,
    /// Whether a logged-in terminal is activity.
    #[serde(default)]
    pub terminals: bool,
    /// For how many seconds a container must have been idle.
    pub window_seconds: u64,
    /// How many looks in a row must have found it idle.
    #[serde(default = "samples_usual")]
    pub samples: u32,
}

fn samples_usual() -> u32 {
    usage::IdleRule::usual().samples
}

/// A container that the policy would warn of now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParkingForecast {
    /// The container.
    #[schema(value_type = u64)]
    pub container: ContainerId,
    /// Its name.
    pub name: String,
    /// Who launched it.
    pub user: String,
    /// Why: `idle`, `lifetime` or `budget`.
    pub reason: String,
    /// Whether it is protected: its owner is told, and it stays.
    pub protected: bool,
    /// When it would be parked if it were warned of now; the time that stands where it was warned of already.
    pub park_at: Timestamp,
    /// What it costs an hour as it stands, which a park would save, less the storage of its image. A decimal as text.
    pub per_hour: String,
    /// The currency.
    pub currency: String,
}

/// That a container is about to be parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParkingWarning {
    /// Why: `idle`, `lifetime` or `budget`.
    pub reason: String,
    /// When its owner was warned.
    pub warned_at: Timestamp,
    /// When it is parked, unless the reason goes away or somebody keeps it.
    pub park_at: Timestamp,
    /// Whether it is protected, and so stays.
    pub protected: bool,
}

impl From<ParkPolicy> for ParkingPolicy {
    fn from(policy: ParkPolicy) -> Self {
        Self {
            idle: policy.idle.map(Into::into),
            lifetime_seconds: policy.lifetime_seconds,
            budget_per_month: policy.budget_per_month.map(|budget| budget.to_string()),
            grace_seconds: policy.grace_seconds,
        }
    }
}

impl TryFrom<ParkingPolicy> for ParkPolicy {
    type Error = String;

    fn try_from(policy: ParkingPolicy) -> Result<Self, String> {
        let budget = policy.budget_per_month.map(|text| {
            text.parse().map_err(|_| format!("budget_per_month is a decimal as text, and {text:?} is none"))
        });
        Ok(Self {
            idle: policy.idle.map(Into::into),
            lifetime_seconds: policy.lifetime_seconds,
            budget_per_month: budget.transpose()?,
            grace_seconds: policy.grace_seconds,
        })
    }
}

impl From<usage::IdleRule> for IdleRule {
    fn from(rule: usage::IdleRule) -> Self {
        let usage::IdleRule { gpu_below, cpu_below, network_below, terminals, window_seconds, samples } =
            rule;
        Self { gpu_below, cpu_below, network_below, terminals, window_seconds, samples }
    }
}

impl From<IdleRule> for usage::IdleRule {
    fn from(rule: IdleRule) -> Self {
        let IdleRule { gpu_below, cpu_below, network_below, terminals, window_seconds, samples } = rule;
        Self { gpu_below, cpu_below, network_below, terminals, window_seconds, samples }
    }
}

impl From<Warning> for ParkingWarning {
    fn from(warning: Warning) -> Self {
        Self {
            reason: warning.reason.to_string(),
            warned_at: warning.warned_at,
            park_at: warning.park_at,
            protected: warning.protected,
        }
    }
}
