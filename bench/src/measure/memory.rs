//! The peak of a process's resident memory, as the kernel keeps it.

use anyhow::{Context as _, Result};

/// Has the kernel begin a process's peak anew, at what it has now.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("write clear_refs")
}

/// The peak since then, in bytes.
pub(crate) fn resident_peak(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read a process's status")?;
    peak(&status).context("find VmHWM in a process's status")
}

fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_in_bytes() {
        assert_eq!(peak("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 12 kB\n"), Some(2048 * 1024));
        assert_eq!(peak("Name:\tkthreadd\n"), None);
        assert!(resident_peak(std::process::id()).unwrap() > 1024);
    }
}
