//! Nodes and flavors as JSON.

use super::schemas;
use jiff::Timestamp;
use mothball_domain::id::ContainerId;
use mothball_domain::node::SnapshotWay;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// `ready`, `drained`, `silent` (no worker reported lately) or `stopped` (its worker stopped in order).
    pub state: String,
    /// Whether its worker reported lately.
    pub alive: bool,
    /// Whether it takes no new containers.
    pub drained: bool,
    /// When its worker last reported.
    pub heartbeat_at: Timestamp,
    /// When it registered first.
    pub created_at: Timestamp,
    /// The random uid kept in its Docker's data root.
    pub uid: String,
    /// Its GPUs.
    pub gpus: Vec<NodeGpu>,
    /// GPUs that no container holds.
    pub gpus_free: u32,
    /// Why GPUs could not be counted.
    pub gpu_note: Option<String>,
    /// Containers that have a place on it.
    #[schema(value_type = Vec<u64>)]
    pub containers: Vec<ContainerId>,
    /// Docker Engine's version.
    pub docker_version: String,
    /// Docker's storage driver.
    pub storage_driver: String,
    /// How it saves.
    #[schema(schema_with = schemas::way)]
    pub snapshot: SnapshotWay,
    /// CPU cores.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Free bytes on Docker's disk.
    pub disk_free_bytes: u64,
    /// Bytes of that disk.
    pub disk_total_bytes: u64,
    /// Jobs it runs at once.
    pub concurrency: u32,
    /// The version of its worker.
    pub version: String,
    /// Docker containers with Mothball's labels that Mothball does not know.
    pub strays: Vec<String>,
}

/// A GPU of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeGpu {
    /// Its index.
    pub index: u32,
    /// Its model.
    pub name: String,
    /// The container that holds it.
    #[schema(value_type = Option<u64>)]
    pub container: Option<ContainerId>,
}

/// A size of containers and its price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Flavor)]
pub struct FlavorView {
    /// Its name.
    pub name: String,
    /// Whole GPUs.
    pub gpus: u32,
    /// CPU cores.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of `/dev/shm`; null for Docker's default.
    pub shm_bytes: Option<u64>,
    /// Price of an hour.
    pub price_per_hour: String,
    /// The currency.
    pub currency: String,
}
