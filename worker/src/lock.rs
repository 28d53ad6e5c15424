//! Locks between processes of one node.
//!
//! A container's lock is held for the whole run of a job on it: a worker that was stopped and resumed, and lost its
//! lease meanwhile, can thus not act on a container that its successor is saving. The node's lock is held for a
//! worker's whole life: whoever gets it knows that its predecessor is dead.
//!
//! They are locks on open files (`flock`): the kernel releases them when the last holder is gone, however it died.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("{} is held by another process", .0.display())]
    Held(PathBuf),
    /// The file cannot be used.
    #[error("lock {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The file of the node's lock.
const NODE_LOCK: &str = "worker.lock";
/// What the names of containers' locks end with.
const CONTAINER_ENDING: &str = "lock";
/// What the names of their guards' locks end with.
const GUARD_ENDING: &str = "guard";
/// How often a lock that is held is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct FileLock {
    // Held open for its lock.
    _file: File,
    path: PathBuf,
    /// Whether the file goes with the lock.
    ephemeral: bool,
}

impl FileLock {
    /// Takes the lock of a container; waits at most `wait` for its holder. The file goes with the lock, so that removed
    /// containers leave nothing behind.
    pub async fn container(dir: &Path, docker_id: &str, wait: Duration) -> Result<Self, LockError> {
        Self::wait_for(&container_lock_path(dir, docker_id), true, wait).await
    }

    /// Takes the lock of the node; waits at most `wait`, for a predecessor that is about to stop.
    pub async fn node(dir: &Path, wait: Duration) -> Result<Self, LockError> {
        Self::wait_for(&dir.join(NODE_LOCK), false, wait).await
    }

    /// Takes the lock of the container's guard, see [`crate::guard`].
    pub(crate) async fn guard(path: &Path, wait: Duration) -> Result<Self, LockError> {
        Self::wait_for(path, true, wait).await
    }

    /// Removes the files of locks that nobody holds: those whose holders were killed. Nobody waits for them either, since
    /// the caller holds the node's lock.
    pub(crate) fn sweep(dir: &Path) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let ending = path.extension().and_then(|e| e.to_str());
            if path.ends_with(NODE_LOCK) || !matches!(ending, Some(CONTAINER_ENDING | GUARD_ENDING)) {
                continue;
            }
            if let Ok(Some(file)) = try_once(&path) {
                drop(Self { _file: file, path, ephemeral: true });
            }
        }
        Ok(())
    }

    async fn wait_for(path: &Path, ephemeral: bool, wait: Duration) -> Result<Self, LockError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(file) = try_once(path)? {
                return Ok(Self { _file: file, path: path.to_owned(), ephemeral });
            }
            if Instant::now() >= deadline {
                return Err(LockError::Held(path.to_owned()));
            }
            sleep(TRY_AGAIN).await;
        }
    }

    /// The file that is locked.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if self.ephemeral {
            // Before the file is closed, so that nobody locks a file that is about to vanish; who waits on the old
            // file finds out in `try_once`.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The lock file of a container.
pub fn container_lock_path(dir: &Path, docker_id: &str) -> PathBuf {
    dir.join(format!("{docker_id}.{CONTAINER_ENDING}"))
}

/// The lock file of a container's guard.
pub fn guard_lock_path(dir: &Path, docker_id: &str) -> PathBuf {
    dir.join(format!("{docker_id}.{GUARD_ENDING}"))
}

fn try_once(path: &Path) -> Result<Option<File>, LockError> {
    let failed = |source: io::Error| LockError::Io { path: path.to_owned(), source };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    // Its last holder may have removed it between our open and our lock: then it locks nothing.
    let ours = file.metadata().map_err(failed)?;
    match fs::metadata(path) {
        Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::task::JoinSet;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_lock_excludes_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let first = FileLock::container(dir.path(), "c1", SHORT).await.unwrap();
        let refused = FileLock::container(dir.path(), "c1", SHORT).await.unwrap_err();
        assert!(matches!(refused, LockError::Held(_)), "{refused}");
        let other = FileLock::container(dir.path(), "c2", SHORT).await.unwrap();
        drop((first, other));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        FileLock::container(dir.path(), "c1", SHORT).await.unwrap();
    }

    #[tokio::test]
    async fn the_node_lock_keeps_its_file() {
        let dir = tempfile::tempdir().unwrap();
        drop(FileLock::node(dir.path(), SHORT).await.unwrap());
        assert!(dir.path().join("worker.lock").exists());
        let _held = FileLock::node(dir.path(), SHORT).await.unwrap();
        assert!(FileLock::node(dir.path(), SHORT).await.is_err());
    }

    #[tokio::test]
    async fn what_the_dead_left_is_swept_and_what_is_held_stays() {
        let dir = tempfile::tempdir().unwrap();
        let _node = FileLock::node(dir.path(), SHORT).await.unwrap();
        let _held = FileLock::container(dir.path(), "c1", SHORT).await.unwrap();
        for left in ["c2.lock", "c3.guard", "c4.frozen"] {
            fs::write(dir.path().join(left), "").unwrap();
        }
        FileLock::sweep(dir.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["c1.lock", "c4.frozen", "worker.lock"]);
    }

    #[tokio::test]
    async fn never_two_holders_although_the_file_comes_and_goes() {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let inside = Arc::new(AtomicU32::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..16 {
            let (dir, inside) = (dir.clone(), inside.clone());
            tasks.spawn(async move {
                for _ in 0..20 {
                    let lock = FileLock::container(dir.path(), "c", LONG).await.unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    drop(lock);
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }
}
