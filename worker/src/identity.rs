//! Which Docker this is: a random uid kept in Docker's data root.
//!
//! Docker's own id does not do: two daemons on one machine report the same (tried). A uid beside the containers
//! themselves stands for exactly those containers, moves with them, and is gone when they are.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The file that holds the uid.
const UID_FILE: &str = "mothball-node";
/// The directory of the locks.
const LOCKS_DIR: &str = "mothball-locks";

/// Why the uid could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// What stands there is no uid. It is not replaced: that would make the node another one.
    #[error("{} holds no node uid; restore it, or remove it to register the node anew", .0.display())]
    Damaged(PathBuf),
    /// Neither Docker's data root nor the worker's own directory can be used.
    #[error("keep the node's uid in {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Who this node is, and where its locks lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The random uid.
    pub uid: String,
    /// The file that holds it.
    pub file: PathBuf,
    /// The directory of the locks: the same for every worker of this Docker, where that can be had.
    pub locks_dir: PathBuf,
    /// Whether both lie in Docker's data root; else in the worker's own directory, and two workers with two
    /// directories would not see each other.
    pub in_data_root: bool,
}

impl NodeIdentity {
    /// Reads the uid, or makes one. `data_root` is the one that Docker reports, none when Docker is not on this machine.
    /// Falls back to `state_dir` when that directory is not Docker's, or not writable, and says so in the log.
    /// Idempotent, and safe against another process that does the same.
    pub fn establish(data_root: Option<&Path>, state_dir: &Path) -> Result<Self, IdentityError> {
        if let Some(root) = data_root {
            match Self::in_docker(root) {
                Ok(identity) => return Ok(identity),
                Err(damaged @ IdentityError::Damaged(_)) => return Err(damaged),
                Err(IdentityError::Io { path, source }) => tracing::warn!(
                    path = %path.display(), error = %source, fallback = %state_dir.display(),
                    "Docker's data root cannot be used for the node's uid and locks; run one worker only on this node"
                ),
            }
        }
        Self::in_dir(state_dir, false)
    }

    fn in_docker(root: &Path) -> Result<Self, IdentityError> {
        // A worker in a container sees a directory of that name only when it was mounted; and an empty one is not it.
        let containers = root.join("containers");
        if !containers.is_dir() {
            let source = io::Error::new(io::ErrorKind::NotFound, "Docker's directory is not there");
            return Err(IdentityError::Io { path: containers, source });
        }
        Self::in_dir(root, true)
    }

    fn in_dir(dir: &Path, in_data_root: bool) -> Result<Self, IdentityError> {
        let make = |path: &Path| {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| IdentityError::Io { path: path.to_owned(), source })
        };
        let locks_dir = dir.join(LOCKS_DIR);
        make(dir)?;
        make(&locks_dir)?;
        let file = dir.join(UID_FILE);
        let uid = match read(&file)? {
            Some(uid) => uid,
            None => write_new(&file)?,
        };
        Ok(Self { uid, file, locks_dir, in_data_root })
    }
}

fn read(file: &Path) -> Result<Option<String>, IdentityError> {
    match fs::read_to_string(file) {
        Ok(text) => match Uuid::parse_str(text.trim()) {
            Ok(uid) => Ok(Some(uid.to_string())),
            Err(_) => Err(IdentityError::Damaged(file.to_owned())),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(IdentityError::Damaged(file.to_owned())),
        Err(source) => Err(IdentityError::Io { path: file.to_owned(), source }),
    }
}

/// Writes a new uid whole or not at all; when another process was faster, its uid counts.
fn write_new(file: &Path) -> Result<String, IdentityError> {
    let failed = |source: io::Error| IdentityError::Io { path: file.to_owned(), source };
    let uid = Uuid::new_v4().to_string();
    let draft = file.with_extension(format!("{}.draft", Uuid::new_v4().simple()));
    let written = write_whole(&draft, &uid).and_then(|()| match fs::hard_link(&draft, file) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    });
    let _ = fs::remove_file(&draft);
    written.map_err(failed)?;
    if let Some(dir) = file.parent() {
        fs::File::open(dir).and_then(|d| d.sync_all()).map_err(failed)?;
    }
    read(file)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn data_root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("containers")).unwrap();
        root
    }

    #[test]
    fn the_uid_stays_and_is_private() {
        let (root, state) = (data_root(), tempfile::tempdir().unwrap());
        let first = NodeIdentity::establish(Some(root.path()), state.path()).unwrap();
        assert!(first.in_data_root && first.locks_dir.is_dir());
        assert_eq!(fs::metadata(&first.file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(NodeIdentity::establish(Some(root.path()), state.path()).unwrap(), first);
        let other = NodeIdentity::establish(Some(data_root().path()), state.path()).unwrap();
        assert_ne!(other.uid, first.uid);
        // Nothing but the uid and the locks.
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 3);
    }

    #[test]
    fn many_at_once_agree() {
        let (root, state) = (data_root(), tempfile::tempdir().unwrap());
        let uids: Vec<String> = std::thread::scope(|scope| {
            let establish = || NodeIdentity::establish(Some(root.path()), state.path()).unwrap().uid;
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(establish)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(uids.windows(2).all(|w| w[0] == w[1]), "{uids:?}");
    }

    #[test]
    fn without_the_data_root_the_worker_keeps_it() {
        let state = tempfile::tempdir().unwrap();
        let elsewhere = state.path().join("not-docker");
        let kept = NodeIdentity::establish(Some(&elsewhere), state.path()).unwrap();
        assert!(!kept.in_data_root && kept.file.starts_with(state.path()) && !elsewhere.exists());
        assert_eq!(NodeIdentity::establish(None, state.path()).unwrap().uid, kept.uid);
    }

    #[test]
    fn a_damaged_uid_is_not_replaced() {
        let (root, state) = (data_root(), tempfile::tempdir().unwrap());
        fs::write(root.path().join(UID_FILE), "").unwrap();
        let refused = NodeIdentity::establish(Some(root.path()), state.path()).unwrap_err();
        assert!(matches!(refused, IdentityError::Damaged(_)), "{refused}");
    }
}
