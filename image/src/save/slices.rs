//! The changes cut into slices, each of which becomes a layer.
//!
//! Slices are uploaded beside each other, and what breaks off is redone slice by slice. What hides anything goes into the
//! first, which becomes the lowest of the new layers: an opaque mark in a higher one would hide its neighbours.

use super::delta::{ChangeSet, Item};
use crate::layer::tree::{Kind, NodeId, Tree};
use std::collections::HashMap;

/// Smallest size of a slice, in bytes before compression, where there are several.
const SLICE_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// Most slices of one pass.
pub const SLICES_MAX: usize = 16;

/// One layer in the making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    /// What it says, in the order of a tar; directories on the way come on top.
    pub items: Vec<Item>,
    /// About how many bytes that are, before compression.
    pub tar_bytes: u64,
}

/// Cuts the changes into slices: none where nothing changed, at most `max` and at most [`SLICES_MAX`]. The first belongs
/// lowest; the order of the others is of no matter.
pub fn slices(tree: &Tree, changes: &ChangeSet, max: usize) -> Vec<Slice> {
    slices_of_size(tree, changes, max, SLICE_BYTES_MIN)
}

/// As [`slices`], with another smallest size of a slice.
pub fn slices_of_size(tree: &Tree, changes: &ChangeSet, max: usize, bytes_min: u64) -> Vec<Slice> {
    if changes.items.is_empty() {
        return Vec::new();
    }
    let max = max.clamp(1, SLICES_MAX);
    let total = changes.tar_bytes(tree);
    let count = usize::try_from(total / bytes_min).unwrap_or(max).clamp(1, max);
    let share = total.div_ceil(count as u64);
    let groups = groups(tree, changes);
    let mut plan = Plan { bytes: vec![0; count], share, current: 0 };
    // Large files first, each where there is most room; then the rest in the order of the tree, so that the files of a
    // directory mostly stay together.
    let is_large = |bytes: u64| bytes > share / 4;
    let mut large: Vec<_> =
        groups.bytes.iter().copied().enumerate().filter(|(_, bytes)| is_large(*bytes)).collect();
    large.sort_unstable_by_key(|(group, bytes)| (std::cmp::Reverse(*bytes), *group));
    let mut slice_of = vec![usize::MAX; groups.bytes.len()];
    for (group, bytes) in large {
        slice_of[group] = plan.roomiest(bytes);
    }
    let mut slices = vec![Slice::default(); count];
    for (item, group) in changes.items.iter().zip(&groups.of_item) {
        let bytes = item.tar_bytes(tree);
        let group = *group as usize;
        let slice = if hides(tree, *item) {
            plan.put(0, bytes)
        } else if slice_of[group] == usize::MAX {
            plan.next(groups.bytes[group])
        } else {
            slice_of[group]
        };
        slice_of[group] = slice;
        slices[slice].items.push(*item);
        slices[slice].tar_bytes += bytes;
    }
    slices.retain(|slice| !slice.items.is_empty());
    slices
}

/// Whether it hides something of lower layers. An opaque directory's own entry stands before its mark, so that the tar can
/// be unpacked as it is read.
fn hides(tree: &Tree, item: Item) -> bool {
    match item {
        Item::Opaque(_) | Item::Removal(_) => true,
        Item::Entry(id) => matches!(tree.node(id).kind, Kind::Whiteout | Kind::OpaqueDirectory),
    }
}

/// Items that belong into one slice.
struct Groups {
    /// For each item, its group.
    of_item: Vec<u32>,
    /// For each group, its bytes.
    bytes: Vec<u64>,
}

/// All names of a file belong together; everything else is alone.
fn groups(tree: &Tree, changes: &ChangeSet) -> Groups {
    let mut of_inode: HashMap<u64, u32> = HashMap::new();
    let (mut of_item, mut bytes) = (Vec::with_capacity(changes.items.len()), Vec::new());
    for item in &changes.items {
        let ino = linked_inode(tree, *item);
        let known = ino.and_then(|ino| of_inode.get(&ino).copied());
        let group = known.unwrap_or_else(|| {
            bytes.push(item.tar_bytes(tree));
            (bytes.len() - 1) as u32
        });
        if let Some(ino) = ino {
            of_inode.insert(ino, group);
        }
        of_item.push(group);
    }
    Groups { of_item, bytes }
}

fn linked_inode(tree: &Tree, item: Item) -> Option<u64> {
    let Item::Entry(id) = item else { return None };
    let node = tree.node(id);
    node.linked.then_some(node.ino)
}

/// How full the slices are.
struct Plan {
    bytes: Vec<u64>,
    share: u64,
    current: usize,
}

impl Plan {
    fn put(&mut self, slice: usize, bytes: u64) -> usize {
        self.bytes[slice] += bytes;
        slice
    }

    fn roomiest(&mut self, bytes: u64) -> usize {
        let slice = (0..self.bytes.len()).min_by_key(|n| self.bytes[*n]).unwrap_or(0);
        self.put(slice, bytes)
    }

    /// The slice that is being filled; the next where it is full.
    fn next(&mut self, bytes: u64) -> usize {
        while self.bytes[self.current] >= self.share && self.current + 1 < self.bytes.len() {
            self.current += 1;
        }
        self.put(self.current, bytes)
    }
}

/// The directories on the way to an entry, the root first, without the entry.
pub(super) fn way_to(tree: &Tree, id: NodeId) -> Vec<NodeId> {
    let mut way = Vec::new();
    let mut at = id;
    while at != crate::layer::tree::ROOT {
        at = tree.parent(at);
        way.push(at);
    }
    way.reverse();
    way
}
