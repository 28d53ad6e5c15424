//! What layers hold besides the contents that are shown: sorted, so that it is read beside a walk.

use super::LayerNumber;
use std::cmp::Ordering;

/// How a layer mentions a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mark {
    /// As a directory.
    Directory = 0,
    /// As anything else that is there.
    Content = 1,
    /// As not there.
    Whiteout = 2,
    /// As a directory in which nothing of lower layers is seen; always beside [`Mark::Directory`] or the entry
    /// that is shown.
    Opaque = 3,
}

impl Mark {
    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::Directory, Self::Content, Self::Whiteout, Self::Opaque]
            .into_iter()
            .find(|m| *m as u8 == number)
    }
}

/// One layer's mention of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mention<'a> {
    /// The path.
    pub path: &'a [u8],
    /// The layer.
    pub layer: LayerNumber,
    /// How it is mentioned.
    pub mark: Mark,
}

/// Mentions in the order of a tar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mentions {
    pub(super) paths: Vec<u8>,
    pub(super) list: Vec<Slot>,
}

/// A mention whose path stands in the common buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) at: usize,
    pub(super) len: u16,
    pub(super) layer: LayerNumber,
    pub(super) mark: Mark,
}

impl Mentions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The mention at a place.
    pub fn get(&self, n: usize) -> Option<Mention<'_>> {
        self.list.get(n).map(|slot| self.mention(slot))
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Mention<'_>> {
        self.list.iter().map(|slot| self.mention(slot))
    }

    /// Adds one behind the others; [`Self::sort`] puts it where it belongs.
    pub fn push(&mut self, path: &[u8], layer: LayerNumber, mark: Mark) {
        let same = self.list.last().filter(|last| self.paths[last.at..][..usize::from(last.len)] == *path);
        let at = if let Some(same) = same {
            same.at
        } else {
            self.paths.extend_from_slice(path);
            self.paths.len() - path.len()
        };
        self.list.push(Slot { at, len: path.len() as u16, layer, mark });
    }

    /// Brings them into order.
    pub fn sort(&mut self) {
        let Self { paths, list } = self;
        let path = |slot: &Slot| &paths[slot.at..][..usize::from(slot.len)];
        let order = |a: &Slot, b: &Slot| {
            tree_order(path(a), path(b)).then_with(|| (a.layer, a.mark).cmp(&(b.layer, b.mark)))
        };
        if !list.is_sorted_by(|a, b| order(a, b).is_le()) {
            list.sort_unstable_by(order);
        }
        list.dedup_by(|a, b| path(a) == path(b) && (a.layer, a.mark) == (b.layer, b.mark));
    }

    fn mention(&self, slot: &Slot) -> Mention<'_> {
        let path = &self.paths[slot.at..][..usize::from(slot.len)];
        Mention { path, layer: slot.layer, mark: slot.mark }
    }
}

/// The order in which a tree is written: names as bytes, a directory's content right behind it.
pub fn tree_order(a: &[u8], b: &[u8]) -> Ordering {
    // No name holds a zero byte, so a slash may sort as one: below every byte of a name.
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(key).cmp(b.iter().map(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directorys_content_comes_right_behind_it() {
        let mut paths: Vec<&[u8]> = vec![b"a!", b"a/b", b"a", b"", b"a/b/c", b"a/b!"];
        paths.sort_by(|a, b| tree_order(a, b));
        assert_eq!(paths, [b"" as &[u8], b"a", b"a/b", b"a/b/c", b"a/b!", b"a!"]);
    }

    #[test]
    fn sorting_keeps_each_mention_once() {
        let mut mentions = Mentions::default();
        for (path, layer) in [(b"b" as &[u8], 1), (b"a", 2), (b"b", 1), (b"a", 0)] {
            mentions.push(path, layer, Mark::Content);
        }
        mentions.sort();
        let got: Vec<_> = mentions.iter().map(|m| (m.path, m.layer)).collect();
        assert_eq!(got, [(b"a" as &[u8], 0), (b"a", 2), (b"b", 1)]);
    }
}
