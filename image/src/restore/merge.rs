//! One layer's tree laid over an older one, both as overlayfs keeps them, by renames.
//!
//! The trees themselves are the state: nothing is kept in memory but the paths of directories that both have. Whole
//! directories that only the newer has move by one rename, so that laying K slices of one save over each other costs
//! about one rename for each directory that is split between slices.

use super::dirs::{mtime, times};
use super::error::{RestoreError, at};
use super::place;
use crate::layer::untar::name::{join, shown};
use rustix::fs::{FileType, Gid, Mode, RenameFlags, Uid, XattrFlags};
use rustix::io::{Errno, Result};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use tokio_util::sync::CancellationToken;

/// Moves everything of `newer` over `older`:
/// a directory over a directory keeps the children, unless the newer is opaque; anything else replaces what is there, a
/// whiteout too; a directory over anything else, a whiteout too, becomes opaque, because what the base may have there was
/// hidden before and must stay so.
///
/// The root is described by the newer tree where `root` says so. What of `newer` remains are directories. Returns whether a
/// directory has become opaque.
pub(super) fn merge(
    older: &OwnedFd,
    newer: &OwnedFd,
    root: bool,
    stop: &CancellationToken,
) -> std::result::Result<bool, RestoreError> {
    let mut marks = false;
    let mut shared = vec![Vec::new()];
    while let Some(path) = shared.pop() {
        if stop.is_cancelled() {
            return Err(RestoreError::Cancelled);
        }
        directory(older, newer, &path, root, &mut shared, &mut marks)
            .map_err(at(|| format!("lay layers over each other in {:?}", shown(&path))))?;
    }
    Ok(marks)
}

/// Moves one directory's entries; directories that both have are added to `shared`.
fn directory(
    older: &OwnedFd,
    newer: &OwnedFd,
    path: &[u8],
    root: bool,
    shared: &mut Vec<Vec<u8>>,
    marks: &mut bool,
) -> Result<()> {
    let (to, from) = (place::open(older, path)?, place::open(newer, path)?);
    // Moving its entries away changes the time.
    let described = rustix::fs::fstat(&from)?;
    let before = mtime(&rustix::fs::fstat(&to)?);
    for entry in place::list(&from)? {
        let name = entry.name.to_bytes();
        match rustix::fs::renameat_with(&from, name, &to, name, RenameFlags::NOREPLACE) {
            // Not every file system can promise not to replace: then it is looked at first.
            Err(Errno::EXIST | Errno::INVAL) => {}
            result => {
                result?;
                continue;
            }
        }
        let there = place::look(&to, name)?;
        if let Some(there) = &there
            && entry.kind == FileType::Directory
        {
            let was_dir = place::is_dir(there);
            let directory = place::open(&from, name)?;
            let opaque = place::is_opaque(&directory)?;
            if was_dir && !opaque {
                shared.push(join(path, name));
                continue;
            }
            if !opaque {
                place::set_opaque(&directory, true)?;
                rustix::fs::futimens(&directory, &times(mtime(&rustix::fs::fstat(&directory)?)))?;
            }
            *marks = true;
        }
        if there.is_some() {
            place::remove(&to, name)?;
        }
        rustix::fs::renameat(&from, name, &to, name)?;
    }
    let described_by_newer = root || !path.is_empty();
    if described_by_newer {
        describe(to.as_fd(), from.as_fd(), &described)?;
    }
    let mtime = if described_by_newer { mtime(&described) } else { before };
    rustix::fs::futimens(&to, &times(mtime))
}

/// Gives a directory the owner, mode and attributes of another.
fn describe(to: BorrowedFd<'_>, from: BorrowedFd<'_>, described: &rustix::fs::Stat) -> Result<()> {
    let (owner, group) = (Uid::from_raw(described.st_uid), Gid::from_raw(described.st_gid));
    rustix::fs::fchown(to, Some(owner), Some(group))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(described.st_mode & 0o7777))?;
    let (had, wanted) = (place::attributes(to)?, place::attributes(from)?);
    for (name, _) in had.iter().filter(|(name, _)| wanted.iter().all(|(kept, _)| kept != name)) {
        rustix::fs::fremovexattr(to, name.as_c_str())?;
    }
    wanted
        .iter()
        .try_for_each(|(name, value)| rustix::fs::fsetxattr(to, name.as_c_str(), value, XattrFlags::empty()))
}

/// Removes everything in a directory, which itself stays.
pub(super) fn clear(root: &OwnedFd) -> Result<()> {
    for entry in place::list(root)? {
        place::remove(root, entry.name.to_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
