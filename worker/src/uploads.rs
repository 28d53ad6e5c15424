//! The node's own list of uploads that go on: what a worker that was killed had begun is taken out of the registry by whoever
//! starts next.

use mothball_image::oci::digest_of;
use mothball_image::{Registry, Upload, UploadLog};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The list: one small file for each upload. A list that cannot be written is no reason not to save: registries drop what
/// nobody ends, in time.
#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    dir: PathBuf,
    /// Those that this very process has begun.
    own: Arc<Mutex<HashSet<PathBuf>>>,
}

/// What is known of an upload.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    repo: String,
    location: String,
}

impl Uploads {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("uploads"), own: Arc::default() }
    }

    /// Takes what a dead predecessor had begun out of the registry.
    pub(crate) async fn sweep(&self, registry: &Registry) {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::warn!(%error, "the list of unfinished uploads cannot be read");
                return;
            }
        };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !self.own().contains(path)) {
            let begun = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Begun>(&bytes).ok());
            if let Some(Begun { repo, location }) = begun
                && let Err(error) = registry.drop_upload(&repo, &location).await
            {
                // Away for a while: it stays on the list.
                tracing::warn!(repo, %error, "an unfinished upload could not be taken out of the registry yet");
                continue;
            }
            let _ = fs::remove_file(&path);
        }
    }

    fn entry(&self, upload: &Upload) -> PathBuf {
        self.dir.join(digest_of(upload.name().as_bytes()).hex())
    }

    fn write(&self, upload: &Upload) -> io::Result<()> {
        let begun = Begun { repo: upload.repo().to_owned(), location: upload.location().to_owned() };
        fs::create_dir_all(&self.dir)?;
        self.own().insert(self.entry(upload));
        fs::write(self.entry(upload), serde_json::to_vec(&begun)?)
    }

    fn own(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UploadLog for Uploads {
    fn goes_on(&self, upload: &Upload) {
        if let Err(error) = self.write(upload) {
            tracing::warn!(%error, "an upload could not be written down");
        }
    }

    fn over(&self, upload: &Upload) {
        self.own().remove(&self.entry(upload));
        match fs::remove_file(self.entry(upload)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "an upload that is over could not be taken off the list");
            }
            _ => {}
        }
    }
}
