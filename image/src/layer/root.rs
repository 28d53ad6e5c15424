//! A directory tree whose files are opened without ever leaving it.
//!
//! The tree belongs to a container that may run meanwhile: any name in it can become a symbolic link between two calls.
//! Directories are therefore opened beneath the root with symbolic links refused, and everything else by its bare name
//! in an open directory.

use super::entry::Xattr;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Longest list of attribute names and longest value of one that Linux has.
const XATTR_BYTES_MAX: usize = 64 * 1024;

/// The root of a tree.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// Opens the directory at `path`, which is trusted.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// The open root.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens the directory at a path in the tree; the empty path is the root.
    pub fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let path = if path.is_empty() { b"." } else { path };
        Ok(rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve)?)
    }

    /// Writes what the tree's file system still has in memory to its disk; waits for it. The whole file system is
    /// concerned, so this is never called while a container is frozen.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.fd)?)
    }
}

/// The attributes of an open file or directory.
pub fn xattrs_of(fd: BorrowedFd<'_>) -> io::Result<Vec<Xattr>> {
    xattrs(|list| rustix::fs::flistxattr(fd, list), |name, value| rustix::fs::fgetxattr(fd, name, value))
}

/// The attributes of what cannot be opened (links, devices, pipes), by a path in `/proc/self/fd`.
pub fn xattrs_of_path(path: &str) -> io::Result<Vec<Xattr>> {
    xattrs(|list| rustix::fs::listxattr(path, list), |name, value| rustix::fs::getxattr(path, name, value))
}

/// Reads all attributes with these two calls. One that vanishes between them is left out.
fn xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<Xattr>> {
    let names = match read_growing(&list) {
        Ok(names) => names,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        match read_growing(|value| get(name, value)) {
            Ok(value) => found.push(Xattr { name: name.to_vec(), value }),
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Most names and values are short: only the others cost a second call.
fn read_growing(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut short = [0; 256];
    match read(&mut short) {
        Ok(length) => Ok(short[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut long = vec![0; XATTR_BYTES_MAX];
            let length = read(&mut long)?;
            long.truncate(length);
            Ok(long)
        }
        Err(error) => Err(error),
    }
}
