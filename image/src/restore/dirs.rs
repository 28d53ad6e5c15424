//! The directories that a layer's entries go into, a few of them kept open.

use super::place;
use crate::layer::entry::Timestamp;
use crate::layer::untar::name::split;
use rustix::fs::{AtFlags, Mode, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::{Errno, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Directories kept open: more than the depth of most trees, fewer than a process may have by far.
const OPEN_MAX: usize = 32;

/// The directories of one layer's tree.
///
/// An entry changes its directory's time of modification. So a directory that is opened remembers its time and gets it
/// back when it is closed: whatever the order of the entries, no list of all directories is kept for the end.
#[derive(Debug)]
pub(super) struct Dirs {
    root: Arc<OwnedFd>,
    /// The one used last stands last.
    open: Vec<OpenDir>,
}

#[derive(Debug)]
struct OpenDir {
    path: Vec<u8>,
    fd: OwnedFd,
    mtime: Option<Timestamps>,
}

/// Times with this modification; the time of access stays.
pub(super) fn times(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() },
    }
}

/// When something was modified, of a `stat`.
pub(super) fn mtime(stat: &rustix::fs::Stat) -> Timestamp {
    Timestamp { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 }
}

impl Dirs {
    pub(super) fn new(root: Arc<OwnedFd>) -> Self {
        Self { root, open: Vec::new() }
    }

    /// Opens a directory that must be there.
    pub(super) fn get(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>> {
        if let Some(at) = self.open.iter().rposition(|dir| dir.path == path) {
            let dir = self.open.remove(at);
            self.open.push(dir);
        } else {
            let fd = place::open(&*self.root, path)?;
            let mtime = Some(times(mtime(&rustix::fs::fstat(&fd)?)));
            if self.open.len() == OPEN_MAX {
                close(self.open.remove(0))?;
            }
            self.open.push(OpenDir { path: path.to_vec(), fd, mtime });
        }
        self.open.last().map(|dir| dir.fd.as_fd()).ok_or(Errno::NOENT)
    }

    /// Opens a directory; where it is missing it is made, like every one on the way, as Docker makes what a layer does not
    /// name: root's, mode 755.
    pub(super) fn get_or_make(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>> {
        match self.get(path).map(drop) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make(path)?,
            result => result?,
        }
        self.get(path)
    }

    /// Makes a directory with everything above it.
    fn make(&mut self, path: &[u8]) -> Result<()> {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let (parent, name) = split(&path[..end]);
            let parent = self.get(parent)?;
            match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    // A whiteout of the same layer is about what lies below it; the directory hides that now.
                    if place::look(parent, name)?.is_some_and(|stat| place::is_whiteout(&stat)) {
                        rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
                        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
                        place::set_opaque(self.get(&path[..end])?, true)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Has the open directory at `path` keep this time.
    pub(super) fn keep_mtime(&mut self, path: &[u8], mtime: Timestamp) {
        if let Some(dir) = self.open.iter_mut().rfind(|dir| dir.path == path) {
            dir.mtime = Some(times(mtime));
        }
    }

    /// Forgets the directories at and below a path that is about to be removed.
    pub(super) fn forget(&mut self, path: &[u8]) {
        self.open.retain(|dir| {
            let below = dir.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
            !below
        });
    }

    /// Closes all of them.
    pub(super) fn finish(mut self) -> Result<()> {
        self.open.drain(..).try_for_each(close)
    }
}

fn close(dir: OpenDir) -> Result<()> {
    dir.mtime.map_or(Ok(()), |times| rustix::fs::futimens(&dir.fd, &times))
}
