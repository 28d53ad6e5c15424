//! What `/v1` answers and takes, as JSON. The server writes and reads these types, and so do its clients.
//!
//! Fields are added freely and never renamed or taken away. Answers tolerate fields that a client does not know;
//! requests do not, so that a misspelt field is an error instead of silence.

mod containers;
mod costs;
mod images;
mod jobs;
mod nodes;
mod notices;
mod parking;
mod people;
mod preflight;
mod problem;
mod requests;
mod retention;
mod schedules;
pub(crate) mod schemas;

pub use containers::{Container, ContainerMount, ContainerPort, Cost, Usage};
pub use costs::{CostReport, CostRow};
pub use images::{CatalogImage, Image, OverwrittenImage, RemovalNotice};
pub use jobs::{Job, JobError, JobEvent, JobProgress};
pub use nodes::{FlavorView, Node, NodeGpu};
pub use notices::{Delivery, DeliveryTry, Notifications, Webhook, WebhookPatch, WebhookRequest};
pub use parking::{IdleRule, ParkingForecast, ParkingPolicy, ParkingWarning};
pub use people::{AuditEntry, Key, Me, Membership, NewKey, Project, User};
pub use preflight::{
    CacheView, DiskView, ExpectedView, LayersView, MountView, PackageTreeView, Preflight, QuotaView,
    RegistryView, ReuseView, SecretView, WeightView,
};
pub use problem::{Code, Problem};
pub use requests::{
    AdoptRequest, ContainerPatch, KeyRequest, LaunchRequest, MemberRequest, ParkRequest, PinRequest,
    ProjectPatch, ProjectRequest, RestoreRequest, SnapshotRequest, UserPatch, UserRequest, WakeRequest,
};
pub use retention::{RetentionForecast, RetentionPolicy};

pub use schedules::{
    ContainerRef, PostponeRequest, RunContainer, Schedule, SchedulePatch, SchedulePreview, ScheduleRequest,
    ScheduleRun, SkipRequest, UpcomingRun,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to send as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}
