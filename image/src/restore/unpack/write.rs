//! What an entry is filled with: bytes, owner, mode, attributes, times.

use super::Trouble;
use crate::layer::entry::{Entry, What, Xattr};
use crate::layer::untar::Untar;
use crate::restore::dirs::times;
use crate::restore::place;
use rustix::fs::{AtFlags, Gid, Mode, Stat, Uid, XattrFlags};
use rustix::io::Errno;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd};

/// The piece in which zeros become a hole.
const HOLE_BYTES: usize = 64 * 1024;
/// What a hole reads as.
static ZEROS: [u8; HOLE_BYTES] = [0; HOLE_BYTES];

/// Writes a file's bytes, with holes for long runs of zeros: a sparse file costs as much disk as before it was saved.
pub(super) fn content<R: BufRead>(tar: &mut Untar<R>, file: impl AsFd, size: u64) -> Result<(), Trouble> {
    let mut at = 0_u64;
    let mut end = 0_u64;
    tar.read_body(|mut piece| {
        while !piece.is_empty() {
            let (data, hole) = next_run(piece);
            let mut left = &piece[..data];
            while !left.is_empty() {
                match rustix::io::pwrite(&file, left, at) {
                    Err(Errno::INTR) => {}
                    result => {
                        let written = result?;
                        left = &left[written..];
                        at += written as u64;
                        end = at;
                    }
                }
            }
            at += hole as u64;
            piece = &piece[data + hole..];
        }
        Ok::<_, Trouble>(())
    })?;
    if end < size {
        rustix::fs::ftruncate(&file, size)?;
    }
    Ok(())
}

/// The lengths of the data, and of the zeros after them, that a piece begins with.
fn next_run(piece: &[u8]) -> (usize, usize) {
    let zeros = |at: usize| piece.get(at..at + HOLE_BYTES).is_some_and(|run| run == ZEROS);
    let mut data = 0;
    while piece.len() - data >= HOLE_BYTES && !zeros(data) {
        data += HOLE_BYTES;
    }
    if piece.len() - data < HOLE_BYTES {
        return (piece.len(), 0);
    }
    let mut hole = 0;
    while zeros(data + hole) {
        hole += HOLE_BYTES;
    }
    (data, hole)
}

/// Gives an open file or directory its owner, mode and attributes; returns how many of these it does not take.
pub(super) fn attributes_of(open: BorrowedFd<'_>, now: &Stat, entry: &Entry) -> Result<u64, Trouble> {
    let (uid, gid) = owner(entry)?;
    let mut mode = now.st_mode & 0o7777;
    if (now.st_uid, now.st_gid) != (entry.meta.uid, entry.meta.gid) {
        rustix::fs::fchown(open, Some(uid), Some(gid))?;
        // The kernel takes setuid and setgid away then; what else it does with the mode is not looked up.
        mode = u32::MAX;
    }
    if mode != u32::from(entry.meta.mode) {
        rustix::fs::fchmod(open, Mode::from_raw_mode(entry.meta.mode.into()))?;
    }
    set(entry, |name, value| rustix::fs::fsetxattr(open, name, value, XattrFlags::empty()))
}

/// The same for what cannot be opened, and its time.
pub(super) fn attributes_at(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<u64, Trouble> {
    let (uid, gid) = owner(entry)?;
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if !matches!(entry.what, What::Symlink { .. }) {
        // Made a moment ago in a directory that nobody else reaches: it is no link.
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.meta.mode.into()), AtFlags::empty())?;
    }
    let skipped = xattrs_at(parent, name, entry)?;
    rustix::fs::utimensat(parent, name, &times(entry.meta.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(skipped)
}

/// Sets the attributes of an entry that is not open.
pub(super) fn xattrs_at(parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<u64, Trouble> {
    if entry.xattrs.is_empty() {
        return Ok(0);
    }
    let path = place::by_descriptor(parent, name);
    set(entry, |name, value| rustix::fs::lsetxattr(path.as_slice(), name, value, XattrFlags::empty()))
}

fn set(entry: &Entry, set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>) -> Result<u64, Trouble> {
    let mut skipped = 0;
    for Xattr { name, value } in entry.xattrs.iter().filter(|xattr| !place::is_overlays(&xattr.name)) {
        match set(name, value) {
            Ok(()) => {}
            // A file system without them, or a kind of entry: Docker goes on without them too.
            Err(Errno::OPNOTSUPP | Errno::PERM) => skipped += 1,
            Err(Errno::INVAL | Errno::RANGE | Errno::TOOBIG) => {
                return Err(Trouble::Entry("an attribute is not valid".to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(skipped)
}

fn owner(entry: &Entry) -> Result<(Uid, Gid), Trouble> {
    // The largest number means "do not change" to the kernel.
    if entry.meta.uid == u32::MAX || entry.meta.gid == u32::MAX {
        return Err(Trouble::Entry("its owner is no user".to_owned()));
    }
    Ok((Uid::from_raw(entry.meta.uid), Gid::from_raw(entry.meta.gid)))
}
