//! The largest directories and files, without keeping all of them.

use super::{parent_of, shown};
use mothball_domain::survey::{LARGEST_MAX, Weight};
use std::collections::HashMap;

/// Names of a path below which a directory is not weighed by itself but counts for the one above.
const DEPTH_MAX: usize = 8;
/// Directories weighed by one thread; when there are more, the deep ones count for those above.
const WEIGHED_MAX: usize = 50_000;
/// Names of a path that are weighed when there is no more room.
const DEPTH_CROWDED: usize = 3;

/// Bytes and entries of directories, without what is in directories below.
#[derive(Debug, Default)]
pub(super) struct Weights(HashMap<Vec<u8>, Sum>);

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    bytes: u64,
    entries: u64,
}

impl Weights {
    /// Counts an entry for the directory that it is in.
    pub(super) fn add(&mut self, path: &[u8], bytes: u64) {
        let mut directory = cut(parent_of(path), DEPTH_MAX);
        if !self.0.contains_key(directory) {
            if self.0.len() >= WEIGHED_MAX {
                directory = cut(directory, DEPTH_CROWDED);
            }
            self.0.entry(directory.to_vec()).or_default();
        }
        if let Some(sum) = self.0.get_mut(directory) {
            sum.bytes += bytes;
            sum.entries += 1;
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (directory, sum) in other.0 {
            let ours = self.0.entry(directory).or_default();
            ours.bytes += sum.bytes;
            ours.entries += sum.entries;
        }
    }

    /// The directories that say most about where the bytes are, with all that is below them. One of which nearly all lies in
    /// a single directory below is left out: that one says more.
    pub(super) fn largest(self) -> Vec<Weight> {
        let mut all: HashMap<Vec<u8>, Sum> = HashMap::with_capacity(self.0.len());
        for (directory, sum) in self.0 {
            let mut at = directory.as_slice();
            while !at.is_empty() {
                let whole = all.entry(at.to_vec()).or_default();
                whole.bytes += sum.bytes;
                whole.entries += sum.entries;
                at = parent_of(at);
            }
        }
        let mut largest_child: HashMap<&[u8], u64> = HashMap::new();
        for (directory, sum) in &all {
            let child = largest_child.entry(parent_of(directory)).or_default();
            *child = (*child).max(sum.bytes);
        }
        let child_of = |directory: &[u8]| largest_child.get(directory).copied().unwrap_or(0);
        let says_more = |(path, sum): &(&Vec<u8>, &Sum)| {
            sum.bytes > 0 && child_of(path).saturating_mul(10) < sum.bytes.saturating_mul(9)
        };
        let mut chosen: Vec<(&Vec<u8>, &Sum)> = all.iter().filter(says_more).collect();
        chosen.sort_by(|a, b| (b.1.bytes, a.0).cmp(&(a.1.bytes, b.0)));
        chosen.truncate(LARGEST_MAX);
        let weight = |(path, sum): (&Vec<u8>, &Sum)| Weight {
            path: shown("", path),
            bytes: sum.bytes,
            entries: sum.entries,
        };
        chosen.into_iter().map(weight).collect()
    }
}

/// The first names of a path.
fn cut(path: &[u8], depth: usize) -> &[u8] {
    let end = path.iter().enumerate().filter(|(_, b)| **b == b'/').nth(depth - 1);
    end.map_or(path, |(end, _)| &path[..end])
}

/// The largest of many, by bytes.
#[derive(Debug, Default)]
pub(super) struct Largest(Vec<(u64, Vec<u8>)>);

impl Largest {
    pub(super) fn add(&mut self, path: &[u8], bytes: u64) {
        if self.0.len() < LARGEST_MAX || self.0.last().is_some_and(|(least, _)| bytes > *least) {
            let at = self.0.partition_point(|(more, _)| *more >= bytes);
            self.0.insert(at, (bytes, path.to_vec()));
            self.0.truncate(LARGEST_MAX);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (bytes, path) in other.0 {
            self.add(&path, bytes);
        }
    }

    pub(super) fn weights(self) -> Vec<Weight> {
        let weight = |(bytes, path): (u64, Vec<u8>)| Weight { path: shown("", &path), bytes, entries: 1 };
        self.0.into_iter().map(weight).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_directory_that_is_nearly_all_one_below_gives_way_to_it() {
        let mut weights = Weights::default();
        weights.add(b"opt/model/weights", 100);
        weights.add(b"opt/readme", 1);
        weights.add(b"data/a/x", 30);
        weights.add(b"data/b/y", 20);
        weights.add(b"top", 7);
        let named: Vec<(String, u64)> = weights.largest().into_iter().map(|w| (w.path, w.bytes)).collect();
        let expected = [("/opt/model", 100), ("/data", 50), ("/data/a", 30), ("/data/b", 20)];
        assert_eq!(named, expected.map(|(path, bytes)| (path.to_owned(), bytes)));
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let mut weights = Weights::default();
        weights.add(b"1/2/3/4/5/6/7/8/9/10/file", 5);
        assert_eq!(weights.largest()[0].path, "/1/2/3/4/5/6/7/8");
        let mut weights = Weights::default();
        for i in 0..WEIGHED_MAX + 100 {
            weights.add(format!("a/b/c/{i}/file").as_bytes(), 1);
        }
        assert!(weights.0.len() <= WEIGHED_MAX + 1);
        assert_eq!(weights.largest()[0].bytes, WEIGHED_MAX as u64 + 100);
    }

    proptest! {
        #[test]
        fn the_largest_are_the_largest_in_order(sizes in prop::collection::vec(0u64..1000, 0..60)) {
            let (mut one, mut two) = (Largest::default(), Largest::default());
            for (i, bytes) in sizes.iter().enumerate() {
                if i % 2 == 0 { &mut one } else { &mut two }.add(i.to_string().as_bytes(), *bytes);
            }
            one.merge(two);
            let found: Vec<u64> = one.weights().into_iter().map(|w| w.bytes).collect();
            let mut expected = sizes;
            expected.sort_unstable_by(|a, b| b.cmp(a));
            expected.truncate(LARGEST_MAX);
            prop_assert_eq!(found, expected);
        }
    }
}
