//! A container as JSON.

use super::{ParkingWarning, schemas};
use jiff::Timestamp;
use mothball_domain::container::ContainerState;
use mothball_domain::id::{ContainerId, JobId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Container {
    /// Its number, and the value of its Docker label `mothball.container`.
    #[schema(value_type = u64)]
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    #[schema(schema_with = schemas::container_state)]
    pub state: ContainerState,
    /// The image it was launched from.
    pub image: String,
    /// The name that images saved from it get.
    pub image_name: String,
    /// Its flavor.
    pub flavor: String,
    /// Indexes of the GPUs it holds on its node.
    pub gpus: Vec<u32>,
    /// Bytes in its writable layer, as its node last reported.
    pub writable_bytes: Option<u64>,
    /// The node it is on.
    pub node: Option<String>,
    /// The project that pays.
    pub project: String,
    /// Who launched it.
    pub user: String,
    /// Its ports.
    pub ports: Vec<ContainerPort>,
    /// Its mounts, which are never saved.
    pub mounts: Vec<ContainerMount>,
    /// Whether deletion is refused.
    pub protected: bool,
    /// When its launch was asked for.
    pub created_at: Timestamp,
    /// What it costs.
    pub cost: Cost,
    /// Free text of its owner.
    #[serde(default)]
    pub description: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Until when policies and schedules leave it alone.
    #[serde(default)]
    pub keep_until: Option<Timestamp>,
    /// The job it is busy with.
    #[serde(default)]
    #[schema(value_type = Option<uuid::Uuid>)]
    pub job: Option<JobId>,
    /// Its Docker id on its node.
    #[serde(default)]
    pub docker_id: Option<String>,
    /// The image that a parked container wakes from.
    #[serde(default)]
    pub parked_image: Option<String>,
    /// Why it is in `error` or `lost`.
    #[serde(default)]
    pub reason: Option<String>,
    /// Whether Mothball did not launch it.
    #[serde(default)]
    pub adopted: bool,
    /// What it uses, as its node saw last; null where nobody looked lately.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// That it is about to be parked by its project's policy.
    #[serde(default)]
    pub warning: Option<ParkingWarning>,
}

/// What a container uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// When its node reported it.
    pub at: Timestamp,
    /// CPU cores.
    pub cpu_cores: f64,
    /// Bytes a second over all its networks, both ways.
    pub network_bytes_per_second: f64,
    /// How busy the busiest of its GPUs was, 0 to 1; null where it has none, or the driver does not tell.
    pub gpu_utilization: Option<f64>,
    /// Terminals that are logged in.
    pub terminals: u32,
    /// For how long it has been idle by its project's rule.
    pub idle_seconds: u64,
    /// That rule, in words.
    pub idle_rule: String,
    /// What its last activity was, in words.
    pub last_activity: Option<String>,
}

/// A port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerPort {
    /// The port inside the container (TCP).
    pub target: u16,
    /// The port on the node; null until it is started.
    pub published: Option<u16>,
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerMount {
    /// Where it appears in the container.
    pub target: String,
}

/// What a container costs. Decimals are text, so that none is rounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cost {
    /// Price of an hour that it runs.
    pub per_hour: String,
    /// What an hour costs as it stands: nothing but its image's storage while it is parked.
    #[serde(default)]
    pub now_per_hour: String,
    /// What it has cost until now.
    pub so_far: String,
    /// What parking it has saved until now, less what its image's storage cost meanwhile.
    #[serde(default)]
    pub avoided: String,
    /// Seconds that it was billed for.
    #[serde(default)]
    pub seconds: String,
    /// The currency.
    #[serde(default)]
    pub currency: String,
}
