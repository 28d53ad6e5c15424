//! What a container uses.

use super::container::found;
use super::{DockerError, Engine};
use bollard::models::ContainerStatsResponse;
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::TryStreamExt;

/// Counters of a container since its start; rates come from two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContainerUsage {
    /// Nanoseconds of CPU.
    pub cpu_ns: u64,
    /// Bytes of memory in use, caches included.
    pub memory_bytes: u64,
    /// Bytes received over all its networks.
    pub network_rx_bytes: u64,
    /// Bytes sent over all its networks.
    pub network_tx_bytes: u64,
}

impl Engine {
    /// What a container uses at this moment; none when it does not exist. All zero when it does not run.
    pub async fn usage(&self, container: &str) -> Result<Option<ContainerUsage>, DockerError> {
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let answer = self
            .call("read usage", self.limits.call, |d| async move {
                d.stats(container, Some(options)).try_collect::<Vec<_>>().await
            })
            .await;
        Ok(found(answer)?.map(|rows| rows.first().map(read).unwrap_or_default()))
    }
}

fn read(stats: &ContainerStatsResponse) -> ContainerUsage {
    let cpu = stats.cpu_stats.as_ref().and_then(|c| c.cpu_usage.as_ref()).and_then(|u| u.total_usage);
    let networks = || stats.networks.iter().flat_map(|n| n.values());
    ContainerUsage {
        cpu_ns: cpu.unwrap_or(0),
        memory_bytes: stats.memory_stats.as_ref().and_then(|m| m.usage).unwrap_or(0),
        network_rx_bytes: networks().filter_map(|n| n.rx_bytes).sum(),
        network_tx_bytes: networks().filter_map(|n| n.tx_bytes).sum(),
    }
}
