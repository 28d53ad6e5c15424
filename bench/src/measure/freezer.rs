//! Whether a container stands still, as the kernel sees it: the freezer of its cgroup, of version 1 or 2.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// One container's freezer.
#[derive(Debug)]
pub(crate) struct Freezer {
    file: PathBuf,
    since: Option<Instant>,
    total: Duration,
}

impl Freezer {
    /// Finds the freezer of a process's cgroup.
    pub(crate) fn of_process(pid: u32) -> Result<Self> {
        let groups =
            std::fs::read_to_string(format!("/proc/{pid}/cgroup")).context("read a process's cgroups")?;
        let mounts = std::fs::read_to_string("/proc/mounts").context("read the mounts")?;
        let file = file(&groups, &mounts).context("find the freezer of a container's cgroup")?;
        Ok(Self { file, since: None, total: Duration::ZERO })
    }

    /// Looks now. A container counts as frozen from the look that finds it so to the look that does not.
    pub(crate) fn look(&mut self) {
        let now = Instant::now();
        // A cgroup that is gone holds nobody still.
        let frozen = std::fs::read_to_string(&self.file).is_ok_and(|state| is_frozen(&state));
        match (frozen, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(since)) => {
                self.total += now - since;
                self.since = None;
            }
            _ => {}
        }
    }

    /// How long it stood still, up to now.
    pub(crate) fn total(&self) -> Duration {
        self.total + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// `freezer.state` of version 1 where that controller is in use, else `cgroup.events` of version 2.
fn file(groups: &str, mounts: &str) -> Option<PathBuf> {
    let mounted = |kind: &str, option: &str| {
        mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            let (at, is, options) = (words.nth(1)?, words.next()?, words.next()?);
            (is == kind && (option.is_empty() || options.split(',').any(|o| o == option)))
                .then(|| PathBuf::from(at))
        })
    };
    let group = |chosen: &dyn Fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let mut words = line.splitn(3, ':').skip(1);
            let (controllers, path) = (words.next()?, words.next()?);
            chosen(controllers).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    if let (Some(root), Some(path)) =
        (mounted("cgroup", "freezer"), group(&|controllers| controllers.split(',').any(|c| c == "freezer")))
    {
        return Some(root.join(path).join("freezer.state"));
    }
    Some(mounted("cgroup2", "")?.join(group(&str::is_empty)?).join("cgroup.events"))
}

/// Version 1 says FREEZING while some of its processes still run: that counts, as it does for whoever waits for them.
fn is_frozen(state: &str) -> bool {
    state.starts_with("FR") || state.lines().any(|line| line == "frozen 1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_freezer_of_version_1_is_taken_where_there_is_one() {
        let mounts = "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n\
                      cgroup /sys/fs/cgroup/freezer cgroup rw,relatime,freezer 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let groups = "9:freezer:/mark/id\n3:pids:/mark/id\n0::/other\n";
        let found = file(groups, mounts).unwrap();
        assert_eq!(found, Path::new("/sys/fs/cgroup/freezer/mark/id/freezer.state"));
    }

    #[test]
    fn version_2_has_it_among_its_events() {
        let found = file("0::/mark/id\n", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n").unwrap();
        assert_eq!(found, Path::new("/sys/fs/cgroup/mark/id/cgroup.events"));
        assert_eq!(file("0::/mark/id\n", "proc /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn both_versions_words_are_understood() {
        assert!(is_frozen("FROZEN\n") && is_frozen("FREEZING\n") && is_frozen("populated 1\nfrozen 1\n"));
        assert!(!is_frozen("THAWED\n") && !is_frozen("populated 1\nfrozen 0\n"));
    }
}
