//! Places below a directory, reached by descriptor and never through a link.
//!
//! Everything that a restore does in a file system goes through here: a directory is opened from its tree's root by one
//! `openat2` that neither leaves the root nor follows a link, and what is done in it names one entry of it. So no
//! entry of a layer, whatever an earlier entry put in its way, leads out of the tree.

use crate::layer::untar::name::join;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, XattrFlags};
use rustix::io::{Errno, Result};
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The mark of a directory that hides what lies below it.
const OPAQUE: &str = "trusted.overlay.opaque";
/// Longest list of an entry's attributes, and longest attribute: the kernel's own bounds.
const XATTR_BYTES_MAX: usize = 64 * 1024;

/// One entry of a directory.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) name: CString,
    pub(super) kind: FileType,
}

/// Opens the root of a tree, which the caller vouches for.
pub(super) fn root(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())
}

/// Opens a directory below a root; the empty path is the root itself.
pub(super) fn open(root: impl AsFd, path: &[u8]) -> Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve) {
            // The kernel could not be sure because something was renamed meanwhile: it asks to be asked again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// The entries of an open directory, without `.` and `..`.
pub(super) fn list(directory: impl AsFd) -> Result<Vec<Name>> {
    // An offset of its own: the same descriptor may be listed again.
    let own = rustix::fs::openat(directory, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut entries = RawDir::new(own, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(Name { name: entry.file_name().to_owned(), kind: entry.file_type() });
        }
    }
    Ok(names)
}

/// What an entry is, without following it; nothing where there is none.
pub(super) fn look(directory: impl AsFd, name: impl rustix::path::Arg) -> Result<Option<Stat>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether this is a directory.
pub(super) fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Whether this is overlayfs's mark for a name that is gone.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether an open directory hides what lies below it.
pub(super) fn is_opaque(directory: impl AsFd) -> Result<bool> {
    let mut value = [0; 8];
    match rustix::fs::fgetxattr(directory, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Has an open directory hide what lies below it, or no longer.
pub(super) fn set_opaque(directory: impl AsFd, opaque: bool) -> Result<()> {
    if opaque {
        return rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty());
    }
    match rustix::fs::fremovexattr(directory, OPAQUE) {
        Err(Errno::NODATA) => Ok(()),
        result => result,
    }
}

/// Whether an attribute is overlayfs's own: no layer may set one, or it could point anywhere.
pub(super) fn is_overlays(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// The attributes of an open directory without overlayfs's own.
pub(super) fn attributes(directory: BorrowedFd<'_>) -> Result<Vec<(CString, Vec<u8>)>> {
    let mut names = [0; 4096];
    let listed = match rustix::fs::flistxattr(directory, &mut names[..]) {
        Ok(length) => names[..length].to_vec(),
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {
            let mut names = vec![0; XATTR_BYTES_MAX];
            let length = rustix::fs::flistxattr(directory, &mut names[..])?;
            names.truncate(length);
            names
        }
        Err(error) => return Err(error),
    };
    let mut attributes = Vec::new();
    for name in listed.split(|b| *b == 0).filter(|name| !name.is_empty() && !is_overlays(name)) {
        let mut value = vec![0; XATTR_BYTES_MAX];
        let length = rustix::fs::fgetxattr(directory, name, &mut value[..])?;
        value.truncate(length);
        attributes.push((CString::new(name).map_err(|_| Errno::INVAL)?, value));
    }
    Ok(attributes)
}

/// The path of an entry for calls that take no directory's descriptor.
pub(super) fn by_descriptor(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat()
}

/// Removes an entry and everything below it. Holds two descriptors however deep it goes.
pub(super) fn remove(directory: impl AsFd, name: &[u8]) -> Result<()> {
    match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        result => return result,
    }
    // Directories in the order in which they were found: the reverse of it empties children before their parents.
    let mut found = vec![name.to_vec()];
    let mut next = 0;
    while next < found.len() {
        let path = found[next].clone();
        let open = open(&directory, &path)?;
        for entry in list(&open)? {
            let name = entry.name.to_bytes();
            if entry.kind != FileType::Directory {
                match rustix::fs::unlinkat(&open, name, AtFlags::empty()) {
                    Err(Errno::ISDIR) => {}
                    result => {
                        result?;
                        continue;
                    }
                }
            }
            found.push(join(&path, name));
        }
        next += 1;
    }
    found
        .iter()
        .rev()
        .try_for_each(|path| rustix::fs::unlinkat(&directory, path.as_slice(), AtFlags::REMOVEDIR))
}
