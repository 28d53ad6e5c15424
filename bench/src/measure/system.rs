//! The whole machine's counters.

use anyhow::{Context as _, Result};

/// Ticks of `/proc/stat` in a second: 100 on every Linux that Debian builds.
const TICKS: f64 = 100.0;

/// CPU-seconds that all processors were busy since the machine started: user, nice, system and interrupts; neither idle,
/// nor waiting for disks, nor taken by another machine of the same host.
pub(crate) fn busy_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    busy(&stat).context("understand /proc/stat")
}

fn busy(stat: &str) -> Option<f64> {
    let fields: Vec<f64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|n| n.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = fields[..] else {
        return None;
    };
    Some((user + nice + system + irq + softirq) / TICKS)
}

/// Bytes received over the loopback interface since the machine started.
pub(crate) fn loopback_bytes() -> Result<u64> {
    let text =
        std::fs::read_to_string("/sys/class/net/lo/statistics/rx_bytes").context("read lo's counter")?;
    text.trim().parse().context("understand lo's counter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_neither_idle_nor_waiting_nor_stolen() {
        let stat = "cpu  100 20 30 9999 888 4 6 777 0 0\ncpu0 1 2 3 4\n";
        assert!((busy(stat).unwrap() - 1.6).abs() < 1e-9);
        assert_eq!(busy("cpu 1 2"), None);
        assert!(busy_seconds().unwrap() > 0.0);
    }
}
