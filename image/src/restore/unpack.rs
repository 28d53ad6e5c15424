//! One layer's entries, written into a directory of their own the way overlayfs keeps a layer.

mod write;

use super::dirs::{Dirs, times};
use super::error::RestoreError;
use super::limits::Limits;
use super::place;
use crate::layer::entry::{Device, Entry, What};
use crate::layer::index::{Mark, Mentions};
use crate::layer::untar::name::{shown, split};
use crate::layer::untar::{Untar, UntarError};
use mothball_domain::image::Digest;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::io::{self, BufRead};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// What a layer held.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    /// Bytes of files.
    pub(super) bytes: u64,
    /// Attributes that this file system does not take.
    pub(super) attributes_skipped: u64,
    /// Whether it has whiteouts or opaque directories.
    pub(super) marks: bool,
    /// Whether it says what the root directory is like.
    pub(super) root: bool,
    /// What it mentions, for the index.
    pub(super) said: Mentions,
}

/// Why an entry was not written.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The entry is to blame.
    Entry(String),
    /// The image is not for this way.
    Unsuitable(String),
    /// It is more than the settings allow.
    Limit(RestoreError),
    /// The file system, or where the bytes come from.
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        match error {
            // What these say about a tree that nobody else touches: an earlier entry stands in the way.
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV => {
                Self::Entry("its directory is not a directory".to_owned())
            }
            Errno::NAMETOOLONG => Self::Entry("its name is too long".to_owned()),
            other => Self::Io(other.into()),
        }
    }
}

/// Unpacks a layer's tar below `root` and reads the stream to its end.
///
/// Within a layer the order of entries does not count: a whiteout or an opaque mark is about the layers below, an entry
/// of the same name stays and hides them.
pub(super) fn unpack(
    tar: impl BufRead,
    root: Arc<OwnedFd>,
    layer: &Digest,
    limits: &Limits,
) -> Result<Unpacked, RestoreError> {
    let mut tar = Untar::new(tar);
    let mut unpacker = Unpacker { dirs: Dirs::new(root), limits, done: Unpacked::default() };
    let broken = |detail: String| RestoreError::Layer { digest: layer.clone(), detail };
    let io = |what: String, error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => broken("it ends too early".to_owned()),
        _ => RestoreError::Io { what, error },
    };
    loop {
        let entry = match tar.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(UntarError::Malformed(detail)) => return Err(broken(detail)),
            Err(UntarError::Io(error)) => return Err(io(format!("read layer {layer}"), error)),
        };
        unpacker.entry(&mut tar, &entry).map_err(|trouble| match trouble {
            Trouble::Entry(detail) => broken(format!("{:?}: {detail}", shown(&entry.path))),
            Trouble::Unsuitable(reason) => RestoreError::Unsuitable { reason },
            Trouble::Limit(error) => error,
            Trouble::Io(error) => io(format!("write {:?} of layer {layer}", shown(&entry.path)), error),
        })?;
    }
    tar.drain().map_err(|error| io(format!("read layer {layer}"), error))?;
    let Unpacker { dirs, done, .. } = unpacker;
    dirs.finish().map_err(|error| io(format!("set the times of layer {layer}"), error.into()))?;
    Ok(done)
}

struct Unpacker<'a> {
    dirs: Dirs,
    limits: &'a Limits,
    done: Unpacked,
}

impl Unpacker<'_> {
    fn entry<R: BufRead>(&mut self, tar: &mut Untar<R>, entry: &Entry) -> Result<(), Trouble> {
        self.limits.entry().map_err(Trouble::Limit)?;
        let path = entry.path.as_slice();
        if let Some(volume) = self.limits.volume_of(path, entry.what == What::Directory) {
            let reason = format!("it holds {:?}, which belongs to the volume {volume}", shown(path));
            return Err(Trouble::Unsuitable(reason));
        }
        self.done.said.push(
            path,
            0,
            match &entry.what {
                What::Directory => Mark::Directory,
                What::Whiteout => Mark::Whiteout,
                What::Opaque => Mark::Opaque,
                _ => Mark::Content,
            },
        );
        match &entry.what {
            What::Whiteout => self.whiteout(path),
            What::Opaque => {
                self.done.marks = true;
                Ok(place::set_opaque(self.dirs.get_or_make(path)?, true)?)
            }
            What::Directory => self.directory(path, entry),
            What::File { size } => self.file(tar, path, entry, *size),
            What::Hardlink { target } => self.hard_link(path, target, entry),
            What::Symlink { target } => self
                .special(path, entry, |parent, name| rustix::fs::symlinkat(target.as_slice(), parent, name)),
            What::Fifo => self.node(path, entry, FileType::Fifo, Device { major: 0, minor: 0 }),
            What::CharDevice(Device { major: 0, minor: 0 }) => {
                Err(Trouble::Entry("it is overlayfs's own mark for a deletion".to_owned()))
            }
            What::CharDevice(device) => self.node(path, entry, FileType::CharacterDevice, *device),
            What::BlockDevice(device) => self.node(path, entry, FileType::BlockDevice, *device),
        }
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), Trouble> {
        self.done.marks = true;
        let (parent, name) = split(path);
        let parent = self.dirs.get_or_make(parent)?;
        match place::look(parent, name)? {
            None => {
                rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?;
            }
            Some(stat) if place::is_dir(&stat) => place::set_opaque(self.dirs.get(path)?, true)?,
            Some(_) => {}
        }
        Ok(())
    }

    fn directory(&mut self, path: &[u8], entry: &Entry) -> Result<(), Trouble> {
        if path.is_empty() {
            self.done.root = true;
        } else {
            let (parent, name) = split(path);
            let parent_fd = self.dirs.get_or_make(parent)?;
            let mut opaque = false;
            match rustix::fs::mkdirat(parent_fd, name, Mode::from_raw_mode(0o700)) {
                Err(Errno::EXIST) => {
                    let there = place::look(parent_fd, name)?;
                    if !there.as_ref().is_some_and(place::is_dir) {
                        opaque = there.as_ref().is_some_and(place::is_whiteout);
                        rustix::fs::unlinkat(parent_fd, name, AtFlags::empty())?;
                        rustix::fs::mkdirat(parent_fd, name, Mode::from_raw_mode(0o700))?;
                    }
                }
                result => result?,
            }
            if opaque {
                place::set_opaque(self.dirs.get(path)?, true)?;
            }
        }
        let directory = self.dirs.get(path)?;
        let stat = rustix::fs::fstat(directory)?;
        let skipped = write::attributes_of(directory, &stat, entry)?;
        self.dirs.keep_mtime(path, entry.meta.mtime);
        self.done.attributes_skipped += skipped;
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        tar: &mut Untar<R>,
        path: &[u8],
        entry: &Entry,
        size: u64,
    ) -> Result<(), Trouble> {
        let (_, name) = split(path);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Nobody else reaches the staging directory, so the final bits may be there from the start. Those that the process's
        // mask takes away are put back below.
        let mode = Mode::from_raw_mode((entry.meta.mode & 0o777).into());
        let file = self.create(path, |parent| rustix::fs::openat(parent, name, flags, mode))?;
        let stat = rustix::fs::fstat(&file)?;
        write::content(tar, &file, size)?;
        let skipped = write::attributes_of(file.as_fd(), &stat, entry)?;
        rustix::fs::futimens(&file, &times(entry.meta.mtime))?;
        self.done.attributes_skipped += skipped;
        self.done.bytes += size;
        Ok(())
    }

    fn hard_link(&mut self, path: &[u8], target: &[u8], entry: &Entry) -> Result<(), Trouble> {
        let (target_parent, target_name) = split(target);
        let missing = || Trouble::Entry(format!("{:?}, its first name, is not in the layer", shown(target)));
        if target_name.is_empty() {
            return Err(missing());
        }
        let target_fd = match self.dirs.get(target_parent) {
            Err(Errno::NOENT) => return Err(missing()),
            result => result?.try_clone_to_owned()?,
        };
        let there = place::look(&target_fd, target_name)?.ok_or_else(missing)?;
        if place::is_dir(&there) || place::is_whiteout(&there) {
            return Err(Trouble::Entry("its first name is no file".to_owned()));
        }
        if target == path {
            return Err(Trouble::Entry("it is a link to itself".to_owned()));
        }
        let (_, name) = split(path);
        self.create(path, |parent| {
            rustix::fs::linkat(&target_fd, target_name, parent, name, AtFlags::empty())
        })?;
        if !entry.xattrs.is_empty() {
            // Owner and mode are the file's already, and setting them again would drop its capabilities.
            let parent = self.dirs.get(split(path).0)?;
            self.done.attributes_skipped += write::xattrs_at(parent, name, entry)?;
        }
        Ok(())
    }

    /// A device or a pipe. Docker makes every device that a layer holds, and lets no container use one that it may not.
    fn node(&mut self, path: &[u8], entry: &Entry, kind: FileType, device: Device) -> Result<(), Trouble> {
        let number = rustix::fs::makedev(device.major, device.minor);
        let mode = Mode::from_raw_mode(0o600);
        self.special(path, entry, |parent, name| rustix::fs::mknodat(parent, name, kind, mode, number))
    }

    /// What cannot be opened to be filled.
    fn special(
        &mut self,
        path: &[u8],
        entry: &Entry,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<()>,
    ) -> Result<(), Trouble> {
        let (parent, name) = split(path);
        self.create(path, |parent| make(parent, name))?;
        let parent = self.dirs.get(parent)?;
        let skipped = write::attributes_at(parent, name, entry)?;
        self.done.attributes_skipped += skipped;
        Ok(())
    }

    /// Makes an entry that is not a directory; one that is there already is replaced, whatever it is.
    fn create<T>(
        &mut self,
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Result<T, Trouble> {
        let (parent, name) = split(path);
        match make(self.dirs.get_or_make(parent)?) {
            Err(Errno::EXIST) => {
                self.dirs.forget(path);
                let parent = self.dirs.get(parent)?;
                place::remove(parent, name)?;
                Ok(make(parent)?)
            }
            result => Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests;
