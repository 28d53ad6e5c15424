//! What is read by name in a directory. Everything answers "it is gone" instead of failing: the container may run.

use crate::layer::entry::Xattr;
use crate::layer::root::{self, Root};
use crate::layer::tree::{Kind, NodeId};
use crate::layer::walk::kind_of;
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// What overlayfs keeps for itself.
const OVERLAY: &[u8] = b"trusted.overlay.";
/// Attributes without which the file's content is somewhere else: a gate in front of the direct way keeps them out.
const FOREIGN: [&[u8]; 2] = [b"trusted.overlay.metacopy", b"trusted.overlay.redirect"];
/// Attributes that belong to the node and not to the file: labels of its security policy, sums over its inode numbers.
const OF_NODE: [&[u8]; 2] = [b"security.selinux", b"security.evm"];

/// What is neither file nor directory.
pub(super) struct Special {
    /// Where a symbolic link points.
    pub(super) target: Vec<u8>,
    pub(super) stat: Stat,
    pub(super) xattrs: Vec<Xattr>,
}

/// A directory of the tree, open as long as something in it is read.
pub(super) struct Directory {
    pub(super) id: NodeId,
    /// Nothing where it is gone.
    fd: Option<OwnedFd>,
}

impl Directory {
    pub(super) fn open(root: &Root, id: NodeId, path: &[u8]) -> io::Result<Self> {
        let fd = there(root.directory(path))?;
        Ok(Self { id, fd })
    }

    pub(super) fn is_gone(&self) -> bool {
        self.fd.is_none()
    }

    /// The directory's own attributes.
    pub(super) fn xattrs(&self) -> io::Result<Vec<Xattr>> {
        self.fd.as_ref().map_or_else(|| Ok(Vec::new()), |fd| kept(root::xattrs_of(fd.as_fd())?))
    }

    /// A link, a pipe or a device, if it still is one of this kind: where it points, what it is, its attributes.
    pub(super) fn special(&self, name: &[u8], kind: Kind) -> io::Result<Option<Special>> {
        let Some((found, stat)) = self.find(name)? else { return Ok(None) };
        if kind_of(&stat) != Some(kind) {
            return Ok(None);
        }
        let target = match kind {
            Kind::Symlink => rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes(),
            _ => Vec::new(),
        };
        let xattrs = kept(root::xattrs_of_path(&proc_path(&found))?)?;
        Ok(Some(Special { target, stat, xattrs }))
    }

    /// Finds what has a name, without opening it.
    fn find(&self, name: &[u8]) -> io::Result<Option<(OwnedFd, Stat)>> {
        let Some(fd) = &self.fd else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::openat(fd, name, flags, Mode::empty()).map_err(io::Error::from);
        let Some(found) = there(found)? else { return Ok(None) };
        let stat = rustix::fs::fstat(&found)?;
        Ok(Some((found, stat)))
    }

    /// The inode of a file's name.
    pub(super) fn inode(&self, name: &[u8]) -> io::Result<Option<u64>> {
        let Some(fd) = &self.fd else { return Ok(None) };
        let stat = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW);
        Ok(there(stat.map_err(io::Error::from))?.map(|stat| stat.st_ino))
    }

    /// Opens a file, if it is one. It is looked at before it is opened: opening what has become a device in the meantime
    /// would do whatever that device does.
    pub(super) fn open_file(&self, name: &[u8]) -> io::Result<Option<(OwnedFd, Stat)>> {
        let Some((found, stat)) = self.find(name)? else { return Ok(None) };
        if kind_of(&stat) != Some(Kind::File) {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(proc_path(&found), flags, Mode::empty());
        let Some(file) = there(file.map_err(io::Error::from))? else { return Ok(None) };
        let stat = rustix::fs::fstat(&file)?;
        Ok(Some((file, stat)))
    }
}

/// The path by which the very thing is reached that a descriptor was found for, whatever its name leads to by now.
fn proc_path(found: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", found.as_raw_fd())
}

/// The attributes of a file.
pub(super) fn file_xattrs(file: &OwnedFd) -> io::Result<Vec<Xattr>> {
    kept(root::xattrs_of(file.as_fd())?)
}

/// Those attributes that belong to the image.
fn kept(mut xattrs: Vec<Xattr>) -> io::Result<Vec<Xattr>> {
    if xattrs.iter().any(|x| FOREIGN.contains(&x.name.as_slice())) {
        let why = "overlayfs keeps part of it elsewhere (redirect or metacopy)";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    xattrs.retain(|x| !x.name.starts_with(OVERLAY) && !OF_NODE.contains(&x.name.as_slice()));
    Ok(xattrs)
}

/// Nothing where a name leads nowhere any more, or to something else.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::STALE) => Ok(None),
            _ => Err(error),
        },
    }
}
