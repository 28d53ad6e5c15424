//! What a worker is made of: ready parts and plain settings. It reads no configuration and no environment.

use crate::docker::{Engine, GpuRequest};
use crate::gpus::GpuInventory;
use crate::guard::GuardCommand;
use crate::metrics::Metrics;
use mothball_domain::container::MountRule;
use mothball_domain::name::NodeName;
use mothball_domain::retry::RetryPolicy;
use mothball_image::Registry;
use mothball_image::survey::SecretRules;
use mothball_queue::Queue;
use mothball_store::Store;
use rust_decimal::Decimal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How containers are to be saved, and custom images launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SnapshotMode {
    /// Directly where that is possible, else by Docker Engine; the job says which, and why.
    #[default]
    Auto,
    /// Directly, or not at all.
    Direct,
    /// By Docker Engine: commit and push, pull and create.
    Engine,
}

/// Plain settings of a worker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's name.
    pub node: NodeName,
    /// Docker's address, for the guard processes.
    pub docker_host: String,
    /// The worker's own directory, used where Docker's data root cannot be.
    pub state_dir: PathBuf,
    /// Jobs at once.
    pub concurrency: u16,
    /// How containers are saved, and custom images launched.
    pub snapshot: SnapshotMode,
    /// How GPUs are found.
    pub gpus: GpuInventory,
    /// How Docker is asked for GPUs.
    pub gpu_request: GpuRequest,
    /// The address on which ports of containers are published.
    pub publish_address: String,
    /// The network that containers are on; Docker's default when absent.
    pub network: Option<String>,
    /// How long a claimed job is the worker's without a renewal.
    pub lease: Duration,
    /// When a failed attempt is repeated.
    pub retry: RetryPolicy,
    /// How often the node reports.
    pub heartbeat: Duration,
    /// How often it is looked at what containers use.
    pub usage_interval: Duration,
    /// How long a container's first process may take to end by itself.
    pub stop_grace: Duration,
    /// What is mounted into launched containers: of an adopted one, too, a wake can bring it back.
    pub mounts: Vec<MountRule>,
    /// What else looks like a secret, and what does not.
    pub secrets: SecretRules,
    /// How long a container may stay frozen while it is saved and deleted.
    pub frozen_max: Duration,
    /// What prices are in.
    pub currency: String,
    /// What keeping a gigabyte of an image for a month costs.
    pub storage_price: Decimal,
    /// How long what is deleted or overwritten can be restored.
    pub undo: Duration,
    /// The version, for the node's report.
    pub version: String,
}

/// Everything that a worker works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The truth.
    pub store: Store,
    /// The wake-ups.
    pub queue: Queue,
    /// Docker of this node.
    pub engine: Engine,
    /// Where images are kept.
    pub registry: Registry,
    /// How a guard process is called.
    pub guard: GuardCommand,
    /// Numbers for Prometheus.
    pub metrics: Arc<Metrics>,
    /// Told `true` while the worker is registered and takes jobs.
    pub ready: watch::Sender<bool>,
    /// Plain settings.
    pub settings: Settings,
}
