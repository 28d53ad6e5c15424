//! What a restore may hold, counted over all layers together.

use super::error::RestoreError;
use crate::layer::untar::name;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bounds that all layers of an image share, and the paths that none of them may touch.
#[derive(Debug)]
pub(super) struct Limits {
    entries_max: u64,
    bytes_max: u64,
    entries: AtomicU64,
    bytes: AtomicU64,
    volumes: Vec<Vec<u8>>,
}

impl Limits {
    pub(super) fn new(entries_max: u64, bytes_max: u64, volumes: &[String]) -> Self {
        let volumes = volumes.iter().filter_map(|path| name::clean(path.as_bytes()).ok());
        Self {
            entries_max,
            bytes_max,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            volumes: volumes.filter(|path| !path.is_empty()).collect(),
        }
    }

    /// Counts one entry.
    pub(super) fn entry(&self) -> Result<(), RestoreError> {
        count(&self.entries, 1, self.entries_max, "entries")
    }

    /// Counts bytes that came out of a decompressor.
    pub(super) fn bytes(&self, bytes: u64) -> Result<(), RestoreError> {
        count(&self.bytes, bytes, self.bytes_max, "bytes")
    }

    /// The volume whose content a path is. A directory at the volume's own path is only where it is mounted.
    pub(super) fn volume_of(&self, path: &[u8], directory: bool) -> Option<String> {
        let holds = |volume: &&Vec<u8>| {
            path.strip_prefix(volume.as_slice())
                .is_some_and(|rest| if rest.is_empty() { !directory } else { rest[0] == b'/' })
        };
        self.volumes.iter().find(holds).map(|volume| format!("/{}", name::shown(volume)))
    }
}

fn count(counter: &AtomicU64, more: u64, limit: u64, unit: &'static str) -> Result<(), RestoreError> {
    let before = counter.fetch_add(more, Ordering::Relaxed);
    if before.saturating_add(more) > limit { Err(RestoreError::TooLarge { limit, unit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_holds_what_is_below_it() {
        let limits = Limits::new(1, 1, &["/data/".to_owned(), "/var/lib/x".to_owned(), "/".to_owned()]);
        for (path, directory, volume) in [
            ("data", true, None),
            ("data", false, Some("/data")),
            ("data/a", true, Some("/data")),
            ("database", false, None),
            ("var/lib", false, None),
            ("var/lib/x/y/z", false, Some("/var/lib/x")),
        ] {
            assert_eq!(limits.volume_of(path.as_bytes(), directory).as_deref(), volume, "{path}");
        }
    }

    #[test]
    fn bounds_are_for_all_layers_together() {
        let limits = Limits::new(2, 10, &[]);
        assert!(limits.entry().is_ok() && limits.entry().is_ok());
        assert!(matches!(limits.entry(), Err(RestoreError::TooLarge { limit: 2, unit: "entries" })));
        assert!(limits.bytes(10).is_ok() && limits.bytes(1).is_err());
    }
}
