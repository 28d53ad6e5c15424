//! The node's own list of containers that a worker froze, made durable before the freeze: whoever starts next thaws
//! them, and leaves alone those that their users froze.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The ending of an entry's file name; the rest is the container's Docker id.
const ENDING: &str = "frozen";

/// The list: one small file for each frozen container.
#[derive(Debug, Clone)]
pub(crate) struct FreezeJournal {
    dir: PathBuf,
}

impl FreezeJournal {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Writes an entry, and returns once it is on the disk.
    pub(crate) fn add(&self, docker_id: &str, job: &str) -> io::Result<()> {
        let mut file = File::create(self.entry(docker_id))?;
        writeln!(file, "{job}")?;
        file.sync_all()?;
        File::open(&self.dir)?.sync_all()
    }

    /// Takes an entry away. Idempotent.
    pub(crate) fn remove(&self, docker_id: &str) -> io::Result<()> {
        match fs::remove_file(self.entry(docker_id)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Whether a container is on the list.
    pub(crate) fn has(&self, docker_id: &str) -> bool {
        self.entry(docker_id).exists()
    }

    /// How long ago a container came onto the list; nothing when that cannot be told.
    pub(crate) fn age(&self, docker_id: &str) -> Option<Duration> {
        fs::metadata(self.entry(docker_id)).ok()?.modified().ok()?.elapsed().ok()
    }

    /// The containers on the list.
    pub(crate) fn list(&self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == ENDING)
                && let Some(id) = path.file_stem().and_then(|s| s.to_str())
            {
                found.push(id.to_owned());
            }
        }
        Ok(found)
    }

    fn entry(&self, docker_id: &str) -> PathBuf {
        self.dir.join(format!("{docker_id}.{ENDING}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let journal = FreezeJournal::new(dir.path());
        journal.add("abc", "job").unwrap();
        journal.add("abc", "job").unwrap();
        fs::write(dir.path().join("abc.lock"), "").unwrap();
        assert_eq!(journal.list().unwrap(), ["abc"]);
        journal.remove("abc").unwrap();
        journal.remove("abc").unwrap();
        assert!(journal.list().unwrap().is_empty());
    }
}
