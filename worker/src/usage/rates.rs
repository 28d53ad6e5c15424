//! Rates from counters.

use crate::docker::ContainerUsage;
use mothball_domain::usage::Use;
use std::time::Duration;

/// A container's counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counters {
    cpu_ns: u64,
    network_bytes: u64,
    terminals: u32,
}

impl Counters {
    pub(super) fn new(usage: &ContainerUsage, terminals: u32) -> Self {
        let network_bytes = usage.network_rx_bytes.saturating_add(usage.network_tx_bytes);
        Self { cpu_ns: usage.cpu_ns, network_bytes, terminals }
    }

    /// What was used since `before`, `elapsed` ago; none where that cannot be told: no time has passed, or the counters
    /// began anew because the container was started again.
    pub(super) fn since(&self, before: &Self, elapsed: Duration) -> Option<Use> {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let cpu_ns = self.cpu_ns.checked_sub(before.cpu_ns)?;
        let network_bytes = self.network_bytes.checked_sub(before.network_bytes)?;
        Some(Use {
            cpu_cores: cpu_ns as f64 / 1e9 / seconds,
            network_bytes_per_second: network_bytes as f64 / seconds,
            gpu: None,
            terminals: self.terminals,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_of_the_time_that_passed() {
        let before = Counters { cpu_ns: 1_000_000_000, network_bytes: 100, terminals: 9 };
        let now = Counters { cpu_ns: 4_000_000_000, network_bytes: 300, terminals: 1 };
        let used = now.since(&before, Duration::from_secs(2)).unwrap();
        assert_eq!(used, Use { cpu_cores: 1.5, network_bytes_per_second: 100.0, gpu: None, terminals: 1 });
    }

    #[test]
    fn what_began_anew_tells_nothing() {
        let before = Counters { cpu_ns: 10, network_bytes: 10, terminals: 0 };
        let restarted = Counters { cpu_ns: 5, network_bytes: 20, terminals: 0 };
        assert_eq!(restarted.since(&before, Duration::from_secs(1)), None);
        assert_eq!(before.since(&before, Duration::ZERO), None);
    }
}
