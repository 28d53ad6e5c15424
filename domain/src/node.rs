//! A node: a name and a uid, its GPUs, and what its worker reports.

use crate::id::ContainerId;
use crate::name::NodeName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a node takes snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotWay {
    /// Reads the writable layer itself.
    Direct,
    /// Docker commit and push.
    #[default]
    Engine,
}

/// What a worker reports with each heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeReport {
    /// Docker Engine's version.
    pub docker_version: String,
    /// Docker's storage driver.
    pub storage_driver: String,
    /// How it takes snapshots.
    pub snapshot: SnapshotWay,
    /// CPU cores.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Free bytes on the disk of Docker's data root.
    pub disk_free_bytes: u64,
    /// Bytes of that disk.
    pub disk_total_bytes: u64,
    /// GPUs by index, with their names.
    pub gpus: Vec<Gpu>,
    /// Why GPUs could not be counted, in words.
    pub gpu_note: Option<String>,
    /// Jobs it runs at once.
    pub concurrency: u32,
    /// The version of the worker.
    pub version: String,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Its index on the node.
    pub index: u32,
    /// The uuid by which Docker is asked for it.
    pub uuid: String,
    /// Its model.
    pub name: String,
}

/// A node, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The random uid kept in its Docker's data root: a second uid under the name is refused.
    pub uid: String,
    /// The run of the worker that registered last; each start of a worker is a new one.
    pub instance: String,
    /// Whether it takes no new containers.
    pub drained: bool,
    /// When its worker last reported.
    pub heartbeat_at: Timestamp,
    /// When it registered first.
    pub created_at: Timestamp,
    /// When its worker stopped in order; none while it runs.
    pub stopped_at: Option<Timestamp>,
    /// What it reported.
    pub report: NodeReport,
    /// Docker containers that carry Mothball's labels but that the store does not know.
    #[serde(default)]
    pub strays: Vec<String>,
}

/// Which containers hold which GPUs of a node. All of a container's GPUs are reserved, or none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reservations {
    /// Container to the indexes of its GPUs. A container without GPUs stands here too.
    pub held: BTreeMap<ContainerId, Vec<u32>>,
}

impl Reservations {
    /// The `count` lowest free indexes among `gpus`; none when fewer are free.
    pub fn free(&self, gpus: &[Gpu], count: u32) -> Option<Vec<u32>> {
        let taken = |index: &u32| self.held.values().any(|held| held.contains(index));
        let free: Vec<u32> =
            gpus.iter().map(|g| g.index).filter(|i| !taken(i)).take(count as usize).collect();
        (free.len() == count as usize).then_some(free)
    }

    /// How many GPUs are held.
    pub fn gpus_held(&self) -> usize {
        self.held.values().map(Vec::len).sum()
    }
}
