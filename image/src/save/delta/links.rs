//! Files with several names: no layer can link to another layer's file, so all names are sent together or none.

use crate::layer::index::{Index, LayerNumber};
use crate::layer::tree::Node;
use std::collections::{HashMap, HashSet};

/// What the last save held of files with several names.
pub(super) struct Links {
    /// How many names each inode had.
    names: HashMap<u64, usize>,
    /// Inodes of which some name is to be sent, and so all.
    broken: HashSet<u64>,
}

impl Links {
    pub(super) fn of(last: Option<&Index>) -> Self {
        let mut names = HashMap::new();
        for node in last.iter().flat_map(|last| &last.tree.nodes).filter(|node| node.linked) {
            *names.entry(node.ino).or_default() += 1;
        }
        Self { names, broken: HashSet::new() }
    }

    pub(super) fn is_broken(&self, node: &Node) -> bool {
        node.linked && self.broken.contains(&node.ino)
    }

    /// Takes what was decided name by name: each with the kept layer that has it. Answers whether some of it must be
    /// decided again.
    pub(super) fn find_broken(&mut self, seen: &[(u64, Option<LayerNumber>)]) -> bool {
        let mut groups: HashMap<u64, (usize, Option<LayerNumber>, bool)> = HashMap::new();
        for (ino, layer) in seen {
            let (count, first, alike) = groups.entry(*ino).or_insert((0, *layer, true));
            *count += 1;
            *alike &= *first == *layer;
        }
        let before = self.broken.len();
        for (ino, (count, layer, alike)) in groups {
            let whole = layer.is_none() || self.names.get(&ino) == Some(&count);
            if !(alike && whole) {
                self.broken.insert(ino);
            }
        }
        self.broken.len() > before
    }
}
