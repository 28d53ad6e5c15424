//! Costs as JSON. Decimals are text, so that none is rounded.

use jiff::Timestamp;
use mothball_domain::id::ContainerId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What something has cost. The keys that the report is cut by are filled, the others are null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CostRow {
    /// The container.
    #[schema(value_type = Option<u64>)]
    pub container: Option<ContainerId>,
    /// Its name.
    #[serde(default)]
    pub container_name: Option<String>,
    /// The user.
    pub user: Option<String>,
    /// The project.
    pub project: Option<String>,
    /// The flavor.
    pub flavor: Option<String>,
    /// The day, as `YYYY-MM-DD` in the report's time zone.
    pub day: Option<String>,
    /// Seconds billed.
    pub seconds: String,
    /// Seconds parked.
    #[serde(default)]
    pub parked_seconds: String,
    /// What they cost: seconds x price / 3600, not rounded.
    pub cost: String,
    /// What parking has saved: what running would have cost, less `storage_cost`.
    pub avoided: String,
    /// What storing images of parked containers cost.
    pub storage_cost: String,
    /// The currency.
    pub currency: String,
}

/// A page of a cost report, and the whole of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CostReport {
    /// The rows.
    pub items: Vec<CostRow>,
    /// What to send as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
    /// The whole time, of all pages together.
    pub total: CostRow,
    /// When the report begins.
    pub from: Timestamp,
    /// When it ends, which is not part of it. What lasts is counted until the moment of the call.
    pub to: Timestamp,
    /// The time zone that days begin and end in.
    pub timezone: String,
}
