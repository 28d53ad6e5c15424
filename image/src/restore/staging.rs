//! Where layers are unpacked before anything of them is in the container, and the container's own directory while it is
//! being filled. Both are cleaned up by whoever lets go of them last, however that comes about.

use super::error::{RestoreError, at};
use super::{merge, place};
use rustix::fs::{IFlags, Mode, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory that is gone when the last one lets go of it: also when the restore's future was dropped, and then only
/// after the last thread that writes into it has stopped.
#[derive(Debug)]
pub(super) struct Staging {
    parent: OwnedFd,
    name: Vec<u8>,
    path: PathBuf,
    fd: OwnedFd,
}

impl Staging {
    /// Makes the directory anew; what a restore that was killed left in it is removed.
    pub(super) fn make(path: &Path) -> Result<Self, RestoreError> {
        let failed = || format!("make the staging directory {}", path.display());
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(at(failed)(Errno::INVAL));
        };
        let name = std::os::unix::ffi::OsStrExt::as_bytes(name).to_vec();
        let parent = place::root(parent).map_err(at(failed))?;
        place::remove(&parent, &name).map_err(at(failed))?;
        // Nobody but root goes in: setuid programs lie here while their owners are being set.
        rustix::fs::mkdirat(&parent, name.as_slice(), Mode::from_raw_mode(0o700)).map_err(at(failed))?;
        let fd = place::open(&parent, &name).map_err(at(failed))?;
        spread(&fd);
        Ok(Self { parent, name, path: path.to_owned(), fd })
    }

    /// Makes a directory for one layer in it.
    pub(super) fn layer(&self, number: usize) -> Result<Arc<OwnedFd>, RestoreError> {
        let failed = || format!("make a directory in {}", self.path.display());
        // ext4 chooses the place by the name, among those that are equally empty; the same name would come back to where
        // the last restore's files were perhaps deleted a moment ago.
        let name = format!("{number}-{:x}", RandomState::new().build_hasher().finish());
        rustix::fs::mkdirat(&self.fd, name.as_str(), Mode::from_raw_mode(0o755)).map_err(at(failed))?;
        place::open(&self.fd, name.as_bytes()).map(Arc::new).map_err(at(failed))
    }
}

/// Has ext4 put each directory made in this one into a part of the disk of its own, as if it stood at the top of a file
/// system. Otherwise all layers share the part of the directory above, their threads wait for each other there, and where
/// a container was deleted in the last minutes every new file passes over all its inodes, which ext4 does not give out
/// again so soon: that was half of a restore's time. Other file systems do not know the mark and need none.
fn spread(directory: &OwnedFd) {
    let marked = ioctl_getflags(directory).and_then(|now| ioctl_setflags(directory, now | IFlags::TOPDIR));
    if let Err(error) = marked {
        tracing::debug!(%error, "the file system cannot spread directories");
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = place::remove(&self.parent, &self.name) {
            tracing::warn!(path = %self.path.display(), %error, "a staging directory is left over");
        }
    }
}

/// A container's upper directory while it is filled: emptied unless it is kept.
#[derive(Debug)]
pub(super) struct Filling {
    upper: OwnedFd,
    kept: bool,
}

impl Filling {
    pub(super) fn of(upper: OwnedFd) -> Self {
        Self { upper, kept: false }
    }

    pub(super) fn directory(&self) -> &OwnedFd {
        &self.upper
    }

    /// It is full, and stays so.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = merge::clear(&self.upper)
        {
            tracing::warn!(%error, "an upper directory that was not filled cannot be emptied");
        }
    }
}
