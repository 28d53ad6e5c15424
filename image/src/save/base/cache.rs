//! Which blobs a base's layers are, remembered across saves and restarts.

use mothball_domain::image::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most layers that are remembered; what was learned longest ago goes first.
const LAYERS_MAX: usize = 4096;
/// Most repositories remembered of one layer.
const REPOS_MAX: usize = 4;

/// A base's layer as a registry has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseBlob {
    /// The digest of its tar.
    pub diff_id: Digest,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// The blob's media type, as it was seen.
    pub media_type: String,
    /// A repository that has it.
    pub repo: String,
}

/// Which blobs layers are. Clones share it. It is a cache: what it says is looked at before it is believed, and a file that
/// cannot be read or written costs an upload, never a save.
#[derive(Debug, Clone, Default)]
pub struct BaseCache {
    file: Option<Arc<PathBuf>>,
    known: Arc<Mutex<Known>>,
}

/// By the registry's host and the diffID; newest last.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    next: u64,
    blobs: BTreeMap<String, (u64, Vec<BaseBlob>)>,
}

impl BaseCache {
    /// Reads the file, and writes it when something is learned. Without one, what is learned is forgotten in the end.
    pub fn open(file: &Path) -> Self {
        let known = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { file: Some(Arc::new(file.to_owned())), known: Arc::new(Mutex::new(known.unwrap_or_default())) }
    }

    /// The blobs that a layer is known as, the newest first.
    pub fn blobs(&self, host: &str, diff_id: &Digest) -> Vec<BaseBlob> {
        let known = self.lock();
        known.blobs.get(&key(host, diff_id)).map_or_else(Vec::new, |(_, b)| b.iter().rev().cloned().collect())
    }

    /// Remembers a blob.
    pub fn learn(&self, host: &str, blob: BaseBlob) {
        let mut known = self.lock();
        known.next += 1;
        let now = known.next;
        let (when, blobs) = known.blobs.entry(key(host, &blob.diff_id)).or_default();
        if blobs.last() == Some(&blob) {
            return;
        }
        *when = now;
        blobs.retain(|other| other.repo != blob.repo);
        blobs.push(blob);
        if blobs.len() > REPOS_MAX {
            blobs.remove(0);
        }
        if known.blobs.len() > LAYERS_MAX {
            let oldest = known.blobs.iter().min_by_key(|(_, (when, _))| *when).map(|(key, _)| key.clone());
            oldest.and_then(|key| known.blobs.remove(&key));
        }
        self.write(&known);
    }

    /// Forgets a blob that turned out not to be there.
    pub fn forget(&self, host: &str, blob: &BaseBlob) {
        let mut known = self.lock();
        if let Some((_, blobs)) = known.blobs.get_mut(&key(host, &blob.diff_id)) {
            blobs.retain(|other| other != blob);
        }
        self.write(&known);
    }

    fn write(&self, known: &Known) {
        let Some(file) = &self.file else { return };
        let written = serde_json::to_vec(known).map_err(std::io::Error::from).and_then(|bytes| {
            let new = file.with_extension("new");
            std::fs::File::create(&new)?.write_all(&bytes)?;
            std::fs::rename(new, file.as_path())
        });
        if let Err(error) = written {
            tracing::warn!(file = %file.display(), %error, "what is known of base layers could not be written");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(host: &str, diff_id: &Digest) -> String {
    format!("{host} {diff_id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest_of;

    fn blob(layer: &str, repo: &str) -> BaseBlob {
        BaseBlob {
            diff_id: digest_of(layer.as_bytes()),
            digest: digest_of(b"blob"),
            size: 4,
            media_type: "x".to_owned(),
            repo: repo.to_owned(),
        }
    }

    #[test]
    fn what_was_learned_outlives_the_process_and_a_broken_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("base.json");
        let cache = BaseCache::open(&file);
        cache.learn("a", blob("1", "p1/x"));
        cache.learn("a", blob("1", "p2/x"));
        let again = BaseCache::open(&file);
        assert_eq!(again.blobs("a", &digest_of(b"1")), [blob("1", "p2/x"), blob("1", "p1/x")]);
        assert!(again.blobs("b", &digest_of(b"1")).is_empty(), "another registry");
        again.forget("a", &blob("1", "p2/x"));
        assert_eq!(BaseCache::open(&file).blobs("a", &digest_of(b"1")), [blob("1", "p1/x")]);
        std::fs::write(&file, "{").unwrap();
        assert!(BaseCache::open(&file).blobs("a", &digest_of(b"1")).is_empty());
    }

    #[test]
    fn it_has_an_end() {
        let cache = BaseCache::default();
        for number in 0..LAYERS_MAX + 10 {
            cache.learn("a", blob(&number.to_string(), "p1/x"));
        }
        for number in 0..10 {
            cache.learn("a", blob("7000", &format!("p{number}/x")));
        }
        assert_eq!(cache.lock().blobs.len(), LAYERS_MAX);
        assert!(cache.blobs("a", &digest_of(b"0")).is_empty());
        assert_eq!(cache.blobs("a", &digest_of(b"7000")).len(), REPOS_MAX);
    }
}
