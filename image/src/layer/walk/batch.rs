//! A few directories that one thread looks into at once: what they hold, until all of it goes into the tree.
//!
//! Nothing is asked for an entry but its `stat`, by its name in its open directory, and nothing of it is allocated by
//! itself: the buffers are used again for the next directories.

use super::{LeftOut, Reason, WALK_PATH_BYTES_MAX, Walk, kind_of, node_of};
use crate::layer::entry::{OPAQUE_XATTR, WHITEOUT_PREFIX};
use crate::layer::tree::{Kind, Node, NodeId, Tree};
use rustix::fs::{AtFlags, RawDir, Stat};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

/// The attribute by which overlayfs remembers where a renamed directory was.
const REDIRECT_XATTR: &[u8] = b"trusted.overlay.redirect";
/// Entries from which on buffers are not kept for the next directories.
const KEPT_MAX: usize = 64 * 1024;

/// What a few directories hold.
#[derive(Default)]
pub(super) struct Batch {
    /// The directories' paths, one behind the other.
    paths: Vec<u8>,
    directories: Vec<Directory>,
    nodes: Vec<Node>,
    names: Vec<u8>,
    /// The nodes by number, those of each directory sorted by name; before each the beginning of its name.
    order: Vec<(u64, u32)>,
    /// The path of the entry that is being looked at.
    path: Vec<u8>,
    pub(super) left_out: LeftOut,
    pub(super) hole_bytes: u64,
    pub(super) redirected: bool,
}

struct Directory {
    id: NodeId,
    path: Range<usize>,
    /// Its entries: a range of `order`.
    found: Range<usize>,
    opaque: bool,
}

/// One directory that was looked into.
pub(super) struct Listed<'a> {
    pub(super) id: NodeId,
    /// Whether it hides what lower layers have in it.
    pub(super) opaque: bool,
    order: &'a [(u64, u32)],
    batch: &'a Batch,
}

impl<'a> Listed<'a> {
    /// What is in it, sorted by name.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Node, &'a [u8])> + use<'a> {
        let batch = self.batch;
        self.order.iter().map(|(_, number)| {
            let node = batch.nodes[*number as usize];
            (node, name_of(&batch.names, &node))
        })
    }
}

fn name_of<'a>(names: &'a [u8], node: &Node) -> &'a [u8] {
    &names[node.name_at as usize..][..usize::from(node.name_len)]
}

/// The first eight bytes of a name, so that most names are told apart by one comparison.
fn beginning(name: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = name.len().min(8);
    first[..length].copy_from_slice(&name[..length]);
    u64::from_be_bytes(first)
}

impl Batch {
    /// Takes these directories of a tree, and forgets what it held.
    pub(super) fn begin(&mut self, tree: &Tree, directories: impl Iterator<Item = NodeId>) {
        if self.nodes.capacity() > KEPT_MAX {
            *self = Self::default();
        }
        self.directories.clear();
        self.paths.clear();
        self.nodes.clear();
        self.names.clear();
        self.order.clear();
        (self.hole_bytes, self.redirected) = (0, false);
        for id in directories {
            let begin = self.paths.len();
            tree.add_path(id, &mut self.paths);
            self.directories.push(Directory {
                id,
                path: begin..self.paths.len(),
                found: 0..0,
                opaque: false,
            });
        }
    }

    /// Looks into all of them.
    pub(super) fn list(&mut self, walk: &Walk<'_>, buffer: &mut [MaybeUninit<u8>]) -> io::Result<()> {
        for number in 0..self.directories.len() {
            let begin = self.order.len();
            let path = self.directories[number].path.clone();
            self.directories[number].opaque = self.list_one(walk, path, buffer)?;
            let (names, nodes) = (&self.names, &self.nodes);
            let name = |number: u32| name_of(names, &nodes[number as usize]);
            self.order[begin..].sort_unstable_by(|(beginning, number), (other_beginning, other)| {
                beginning.cmp(other_beginning).then_with(|| name(*number).cmp(name(*other)))
            });
            self.directories[number].found = begin..self.order.len();
        }
        Ok(())
    }

    /// How many entries there are, and how many bytes their names take.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.nodes.len(), self.names.len())
    }

    /// The directories, each with what is in it.
    pub(super) fn directories(&self) -> impl Iterator<Item = Listed<'_>> {
        self.directories.iter().map(|directory| Listed {
            id: directory.id,
            opaque: directory.opaque,
            order: &self.order[directory.found.clone()],
            batch: self,
        })
    }

    /// Looks into one; whether it is opaque.
    fn list_one(
        &mut self,
        walk: &Walk<'_>,
        path: Range<usize>,
        buffer: &mut [MaybeUninit<u8>],
    ) -> io::Result<bool> {
        self.path.clear();
        self.path.extend_from_slice(&self.paths[path]);
        let directory = match walk.root.directory(&self.path) {
            Ok(directory) => directory,
            // Removed, or replaced by something else, since its own directory was read.
            Err(error) if is_gone(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        let opaque = self.marks(directory.as_fd())?;
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        let name_at = self.path.len();
        let mut entries = RawDir::new(&directory, buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // The directory was removed while it was read.
                Err(Errno::NOENT) => break,
                Err(error) => return Err(error.into()),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            match rustix::fs::statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => {
                    self.path.truncate(name_at);
                    self.path.extend_from_slice(name);
                    self.add(walk, name_at, &stat)?;
                }
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(opaque)
    }

    /// Takes the entry at `path` in, or says why not.
    fn add(&mut self, walk: &Walk<'_>, name_at: usize, stat: &Stat) -> io::Result<()> {
        let name = &self.path[name_at..];
        let node = kind_of(stat).map(|kind| node_of(stat, kind));
        let reason = match &node {
            _ if stat.st_dev != walk.device => Some(Reason::OtherFileSystem),
            _ if name.starts_with(WHITEOUT_PREFIX) => Some(Reason::WhiteoutName),
            _ if self.path.len() > WALK_PATH_BYTES_MAX => Some(Reason::PathTooLong),
            None => Some(Reason::Socket),
            Some(node) => walk.keep.leave_out(&self.path, node),
        };
        match (node, reason) {
            (Some(mut node), None) => {
                let too_many = |_| io::Error::other("a directory has more entries than one image can hold");
                node.name_at = self.names.len().try_into().map_err(too_many)?;
                node.name_len = name.len() as u8;
                if node.kind == Kind::File {
                    self.hole_bytes += node.size.saturating_sub(stat.st_blocks as u64 * 512);
                }
                self.order.push((beginning(name), self.nodes.len().try_into().map_err(too_many)?));
                self.names.extend_from_slice(name);
                self.nodes.push(node);
            }
            (_, Some(reason)) => self.left_out.add(&self.path, reason),
            (None, None) => {}
        }
        Ok(())
    }

    /// What overlayfs says of a directory itself; whether it is opaque.
    fn marks(&mut self, directory: BorrowedFd<'_>) -> io::Result<bool> {
        let mut names = [0; 1024];
        let listed = match rustix::fs::flistxattr(directory, &mut names) {
            Ok(length) => &names[..length],
            Err(Errno::NOTSUP) => return Ok(false),
            // More than fits: ask for the one that matters.
            Err(Errno::RANGE) => OPAQUE_XATTR.as_bytes(),
            Err(error) => return Err(error.into()),
        };
        let mut opaque = false;
        for name in listed.split(|b| *b == 0) {
            if name == OPAQUE_XATTR.as_bytes() {
                let mut value = [0; 8];
                let read = rustix::fs::fgetxattr(directory, OPAQUE_XATTR, &mut value);
                opaque = read.is_ok_and(|length| &value[..length] == b"y");
            } else if name == REDIRECT_XATTR {
                self.redirected = true;
            }
        }
        Ok(opaque)
    }
}

/// Whether an error says that a path does not lead to a directory any more.
fn is_gone(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV))
}
