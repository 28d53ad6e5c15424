//! A whole tree as one walk saw it: 64 bytes an entry and its name.
//!
//! The children of a directory stand together, sorted by name, behind their directory. Names share one buffer. Nothing
//! else is kept: extended attributes, link targets and content are read when they are written.

use super::entry::{Device, Meta, Timestamp};
use super::walk::LeftOut;
use std::ops::Range;

/// An entry's number in its tree.
pub type NodeId = u32;

/// The root's number.
pub const ROOT: NodeId = 0;

/// What an entry is, as the file system has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A directory.
    Directory = 0,
    /// A directory in which nothing of lower layers is seen.
    OpaqueDirectory = 1,
    /// A regular file.
    File = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A named pipe.
    Fifo = 4,
    /// A character device.
    CharDevice = 5,
    /// A block device.
    BlockDevice = 6,
    /// What overlayfs puts where something of a lower layer was removed.
    Whiteout = 7,
}

impl Kind {
    /// Whether it is a directory.
    pub fn is_directory(self) -> bool {
        matches!(self, Self::Directory | Self::OpaqueDirectory)
    }

    /// The kind with this number, as index files have it.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Directory,
            1 => Self::OpaqueDirectory,
            2 => Self::File,
            3 => Self::Symlink,
            4 => Self::Fifo,
            5 => Self::CharDevice,
            6 => Self::BlockDevice,
            7 => Self::Whiteout,
            _ => return None,
        })
    }
}

/// What one walk saw of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Nanoseconds since 1970 of the last change to content or attributes; wraps beyond the year 2262, and is
    /// only ever compared.
    pub ctime_nanos: i64,
    /// The inode's number.
    pub ino: u64,
    /// Bytes of a file; the device's number, as the kernel packs it, of a device; 0 of everything else.
    pub size: u64,
    pub(crate) mtime_seconds: i64,
    pub(crate) mtime_nanos: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    pub(crate) parent: NodeId,
    pub(crate) name_at: u32,
    /// The first child; 0 where there is none.
    pub(crate) first_child: NodeId,
    /// Permissions with setuid, setgid and sticky bit.
    pub mode: u16,
    pub(crate) name_len: u8,
    /// What it is.
    pub kind: Kind,
    /// Whether it is a file with several names.
    pub linked: bool,
}

impl Node {
    /// Mode, owner and time.
    pub fn meta(&self) -> Meta {
        let mtime = Timestamp { seconds: self.mtime_seconds, nanos: self.mtime_nanos };
        Meta { mode: self.mode, uid: self.uid, gid: self.gid, mtime }
    }

    /// The number of a device.
    pub fn device(&self) -> Device {
        Device { major: rustix::fs::major(self.size), minor: rustix::fs::minor(self.size) }
    }

    /// Whether nothing tells the two apart: what a file was written to changes its ctime, what it was replaced by
    /// has another inode. Whiteouts are all alike: overlayfs links them to one inode.
    pub fn same_as(&self, other: &Self) -> bool {
        let kind = |n: &Self| if n.kind.is_directory() { Kind::Directory } else { n.kind };
        if kind(self) != kind(other) {
            return false;
        }
        self.kind == Kind::Whiteout
            || (self.ctime_nanos, self.ino, self.size) == (other.ctime_nanos, other.ino, other.size)
                && self.meta() == other.meta()
    }

    /// About how many bytes it takes in a layer, before compression: header, extended header, content.
    pub fn tar_bytes(&self) -> u64 {
        const HEADERS: u64 = 3 * 512;
        match self.kind {
            Kind::File => HEADERS + self.size.next_multiple_of(512),
            _ => HEADERS,
        }
    }
}

/// A tree as one walk saw it.
#[derive(Debug, Clone)]
pub struct Tree {
    pub(crate) nodes: Vec<Node>,
    pub(crate) names: Vec<u8>,
    /// What is not in it although the file system has it: no layer can hold it, or it was excluded.
    pub left_out: LeftOut,
    /// When the walk began, in nanoseconds since 1970, by the clock that file systems stamp with.
    pub walked_at_nanos: i64,
    /// Bytes of holes: a layer holds them as zeros.
    pub hole_bytes: u64,
    /// Whether a directory in it was renamed in overlayfs's own way (`redirect`): no layer can say that.
    pub redirected: bool,
}

impl Tree {
    /// How many entries there are, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() <= 1
    }

    /// What the walk saw of an entry.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// An entry's own name; empty for the root.
    pub fn name(&self, id: NodeId) -> &[u8] {
        let node = self.node(id);
        let at = node.name_at as usize;
        &self.names[at..at + usize::from(node.name_len)]
    }

    /// The directory that holds an entry; of the root, itself.
    pub fn parent(&self, id: NodeId) -> NodeId {
        self.node(id).parent
    }

    /// What is in a directory, sorted by name.
    pub fn children(&self, id: NodeId) -> Range<NodeId> {
        let first = self.node(id).first_child;
        if first == 0 {
            return 0..0;
        }
        let siblings = self.nodes[first as usize..].iter().take_while(|n| n.parent == id).count();
        first..first + siblings as NodeId
    }

    /// Whether an entry is the last of its directory.
    fn is_last_child(&self, id: NodeId) -> bool {
        self.nodes.get(id as usize + 1).is_none_or(|next| next.parent != self.node(id).parent)
    }

    /// The entry that follows in the order of a tar: a directory's content comes right behind it.
    pub fn next(&self, id: NodeId) -> Option<NodeId> {
        let first = self.node(id).first_child;
        if first != 0 { Some(first) } else { self.skip(id) }
    }

    /// As [`Self::next`], without what is in the entry.
    pub fn skip(&self, mut id: NodeId) -> Option<NodeId> {
        while id != ROOT {
            if !self.is_last_child(id) {
                return Some(id + 1);
            }
            id = self.parent(id);
        }
        None
    }

    /// All entries in the order of a tar, the root first.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::successors(Some(ROOT), |id| self.next(*id))
    }

    /// An entry's path.
    pub fn path(&self, id: NodeId) -> Vec<u8> {
        let mut path = Vec::new();
        self.add_path(id, &mut path);
        path
    }

    /// Puts an entry's path behind what is there. Asks for no memory but the path's own: walks do this for each directory.
    pub(crate) fn add_path(&self, id: NodeId, path: &mut Vec<u8>) {
        let way =
            || std::iter::successors(Some(id), |id| Some(self.parent(*id))).take_while(|id| *id != ROOT);
        let length: usize = way().map(|id| usize::from(self.node(id).name_len) + 1).sum();
        let begin = path.len();
        let mut end = begin + length.saturating_sub(1);
        path.resize(end, b'/');
        for id in way() {
            let name = self.name(id);
            let at = end - name.len();
            path[at..end].copy_from_slice(name);
            end = at.saturating_sub(1);
        }
    }

    /// The entry of this name in a directory.
    pub fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        let children = self.children(directory);
        let (mut low, mut high) = (children.start, children.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The entry at a path.
    pub fn find(&self, path: &[u8]) -> Option<NodeId> {
        let names = path.split(|b| *b == b'/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(ROOT, |at, name| self.child(at, name))
    }

    /// About how many bytes the whole tree takes as layers, before compression.
    pub fn tar_bytes(&self) -> u64 {
        self.nodes.iter().map(Node::tar_bytes).sum()
    }

    /// Puts a directory's content behind everything that is there: sorted by name, each with its name.
    /// Answers the first one's number. The caller has checked that it fits (see `walk`).
    pub(crate) fn append<'a>(
        &mut self,
        parent: NodeId,
        children: impl IntoIterator<Item = (Node, &'a [u8])>,
    ) -> NodeId {
        let first = self.nodes.len() as NodeId;
        for (node, name) in children {
            let (name_at, name_len) = (self.names.len() as u32, name.len() as u8);
            self.names.extend_from_slice(name);
            self.nodes.push(Node { parent, name_at, name_len, first_child: 0, ..node });
        }
        if self.nodes.len() > first as usize {
            self.nodes[parent as usize].first_child = first;
        }
        first
    }
}
