//! How fast this node saved lately, kept across restarts: what lets it say how long a save will take.

use mothball_domain::node::SnapshotWay;
use mothball_domain::survey::Expected;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Saves of one way that are remembered; older ones say less of today's network.
const KEPT_MAX: usize = 20;
/// Below this a save's time is that of its steps, and says nothing of its bytes.
const LARGE_BYTES: u64 = 32 << 20;

/// The remembered saves, in a file of the worker's own directory.
#[derive(Debug)]
pub(crate) struct Rates {
    file: PathBuf,
    saves: Mutex<Saves>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Saves {
    direct: Vec<Save>,
    engine: Vec<Save>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Save {
    bytes: u64,
    milliseconds: u64,
}

impl Saves {
    fn of(&mut self, way: SnapshotWay) -> &mut Vec<Save> {
        match way {
            SnapshotWay::Direct => &mut self.direct,
            SnapshotWay::Engine => &mut self.engine,
        }
    }
}

impl Rates {
    /// Reads what an earlier run has left; a file that is damaged is as good as none.
    pub(crate) fn new(state_dir: &Path) -> Self {
        let file = state_dir.join("rates.json");
        let saves = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { file, saves: Mutex::new(saves.unwrap_or_default()) }
    }

    /// Remembers a save that read `bytes` and took `time` in all.
    pub(crate) fn note(&self, way: SnapshotWay, bytes: u64, time: Duration) {
        let saves = {
            let mut saves = self.saves.lock().unwrap_or_else(PoisonError::into_inner);
            let of_way = saves.of(way);
            of_way.push(Save { bytes, milliseconds: time.as_millis() as u64 });
            if of_way.len() > KEPT_MAX {
                of_way.remove(0);
            }
            saves.clone()
        };
        if let Err(error) = self.write(&saves) {
            tracing::warn!(file = %self.file.display(), error = %error, "how fast this node saves could not be kept");
        }
    }

    /// How long a save of `bytes` would take; none while nothing comparable was saved.
    pub(crate) fn expect(&self, way: SnapshotWay, bytes: u64) -> Option<Expected> {
        let saves = self.saves.lock().unwrap_or_else(PoisonError::into_inner).of(way).clone();
        let (large, small): (Vec<Save>, Vec<Save>) = saves.iter().partition(|s| s.bytes >= LARGE_BYTES);
        let floor = median(small.iter().map(|s| s.milliseconds).collect());
        let milliseconds = if bytes < LARGE_BYTES && floor.is_some() {
            floor?
        } else {
            // What the steps take in any case, and then the pace of the bytes.
            let steps = floor.unwrap_or(0);
            let per_terabyte = |s: &Save| s.milliseconds.saturating_sub(steps) as f64 * 1e12 / s.bytes as f64;
            let pace = median(large.iter().map(|s| per_terabyte(s) as u64).collect())?;
            steps.saturating_add((pace as f64 / 1e12 * bytes as f64) as u64)
        };
        Some(Expected { seconds: milliseconds.div_ceil(1000), saves: saves.len() as u32 })
    }

    fn write(&self, saves: &Saves) -> std::io::Result<()> {
        let dir = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let mut draft = tempfile::NamedTempFile::new_in(dir)?;
        draft.write_all(&serde_json::to_vec(saves)?)?;
        draft.persist(&self.file)?;
        Ok(())
    }
}

fn median(mut of: Vec<u64>) -> Option<u64> {
    of.sort_unstable();
    of.get(of.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use SnapshotWay::{Direct, Engine};

    #[test]
    fn the_next_save_takes_as_long_as_the_last_ones_did() {
        let dir = tempfile::tempdir().unwrap();
        let rates = Rates::new(dir.path());
        assert_eq!(rates.expect(Engine, 1), None);
        rates.note(Engine, 1 << 20, Duration::from_secs(2));
        assert_eq!(rates.expect(Engine, 5).unwrap(), Expected { seconds: 2, saves: 1 });
        assert_eq!(rates.expect(Engine, 1 << 30), None, "one small save says nothing of large ones");
        assert_eq!(rates.expect(Direct, 5), None, "nor of another way");
        rates.note(Engine, 1 << 30, Duration::from_secs(52));
        assert_eq!(rates.expect(Engine, 2 << 30).unwrap(), Expected { seconds: 102, saves: 2 });
        // A later run goes on from there.
        assert_eq!(Rates::new(dir.path()).expect(Engine, 2 << 30), rates.expect(Engine, 2 << 30));
    }

    #[test]
    fn they_are_bounded_and_survive_a_damaged_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("rates.json"), "{\"direct\": [1").unwrap();
        let rates = Rates::new(dir.path());
        assert_eq!(rates.expect(Direct, u64::MAX), None);
        for n in 0..30 {
            rates.note(Direct, u64::MAX - n, Duration::MAX);
        }
        assert_eq!(rates.saves.lock().unwrap().direct.len(), KEPT_MAX);
        assert!(rates.expect(Direct, u64::MAX).is_some());
    }
}
