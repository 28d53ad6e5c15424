//! What Docker Engine is like.

use super::{DockerError, Engine};
use jiff::Timestamp;

/// What is known of Docker Engine on this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineInfo {
    /// Its version.
    pub version: String,
    /// The newest API that it speaks.
    pub api_version: String,
    /// The storage driver.
    pub storage_driver: String,
    /// Whether images are kept by containerd: writable layers then lie elsewhere, and an image's id is its
    /// manifest's digest.
    pub containerd_store: bool,
    /// Whether overlay2 computes differences from the writable layer alone; none for other drivers.
    pub native_overlay_diff: Option<bool>,
    /// The filesystem below Docker's data root.
    pub backing_filesystem: Option<String>,
    /// Whether ids in containers are mapped to others on the node.
    pub userns_remap: bool,
    /// Docker's data root, as Docker sees it.
    pub data_root: String,
    /// CPU cores.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The machine's architecture, in Docker's word.
    pub architecture: String,
    /// The kernel.
    pub kernel: String,
    /// The cgroup version, "1" or "2".
    pub cgroup_version: String,
    /// Whether a runtime "nvidia" is configured.
    pub nvidia_runtime: bool,
}

impl Engine {
    /// What Docker Engine is like. Changes nothing; fails while Docker is down.
    pub async fn info(&self) -> Result<EngineInfo, DockerError> {
        let info = self.call("ask Docker", self.limits.call, |d| async move { d.info().await }).await?;
        let version = self.call("ask Docker", self.limits.call, |d| async move { d.version().await }).await?;
        let driver_status = info.driver_status.unwrap_or_default();
        let driver = |key: &str| {
            let row = driver_status.iter().find(|row| row.first().is_some_and(|k| k == key));
            row.and_then(|row| row.get(1)).cloned()
        };
        let security = info.security_options.unwrap_or_default();
        Ok(EngineInfo {
            version: info.server_version.unwrap_or_default(),
            api_version: version.api_version.unwrap_or_default(),
            storage_driver: info.driver.unwrap_or_default(),
            containerd_store: driver("driver-type").is_some_and(|t| t.contains("containerd.snapshotter")),
            native_overlay_diff: driver("Native Overlay Diff").map(|v| v == "true"),
            backing_filesystem: driver("Backing Filesystem"),
            userns_remap: security.iter().any(|o| o.contains("name=userns")),
            data_root: info.docker_root_dir.unwrap_or_default(),
            cpus: info.ncpu.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            memory_bytes: info.mem_total.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            architecture: info.architecture.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            cgroup_version: info.cgroup_version.map(|v| v.to_string()).unwrap_or_default(),
            nvidia_runtime: info.runtimes.is_some_and(|r| r.contains_key("nvidia")),
        })
    }

    /// Docker's own clock, by which its events are told: this process's may be off.
    pub async fn clock(&self) -> Result<Timestamp, DockerError> {
        let what = "ask Docker for the time";
        let info = self.call(what, self.limits.call, |d| async move { d.info().await }).await?;
        let text = info.system_time.unwrap_or_default();
        text.parse().map_err(|e| DockerError::Answer { what, reason: format!("{text:?}: {e}") })
    }
}
