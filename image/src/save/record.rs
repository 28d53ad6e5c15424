//! What the image holds once slices are uploaded: the index that the next pass begins with.
//!
//! The next pass may be the frozen one of the same save, the next save, or the next attempt after a crash: they all ask the
//! same index. After a crash some slices are missing; what they were to hold is held nowhere, and is sent then.

use super::delta::{ChangeSet, Item};
use super::slices::Slice;
use super::source::SliceReport;
use crate::layer::index::{Base, Held, Index, LayerBlob, LayerNumber, Mark};
use crate::layer::tree::{Kind, Node, NodeId, Tree};
use std::sync::Arc;

/// File systems stamp with a clock that moves in ticks: what changed in the tick of the walk may change again and keep
/// its stamps. Longest tick that kernels are built with, twice.
pub const TICK_NANOS: i64 = 20_000_000;

/// A slice that is in the registry.
#[derive(Debug, Clone)]
pub struct Sent {
    /// What it says.
    pub slice: Arc<Slice>,
    /// What became of it when it was read.
    pub report: SliceReport,
    /// The layer that it became.
    pub blob: LayerBlob,
}

/// Describes the image after a pass over `tree`. `changes` were computed against `last`; `sent` are those of its slices
/// that are in the registry, in their order, which is the layers'.
///
/// `frozen` says that no `syncfs` came before the reading. Then a page that a process has mapped may already have been
/// dirty, and later stores to it leave no trace in the stamps: what was read is believed only until the next pass.
pub fn record(
    last: Option<&Index>,
    base: &Base,
    rules: &str,
    tree: &Arc<Tree>,
    changes: &ChangeSet,
    sent: &[Sent],
    frozen: bool,
) -> Index {
    let mut layers = kept(changes, last.map(|last| &last.layers));
    let mut said_bytes = kept(changes, last.map(|last| &last.said_bytes));
    let mut held = changes.held.clone();
    let mut mentions = changes.mentions.clone();
    for Sent { slice, report, blob } in sent {
        let layer = layers.len() as LayerNumber;
        layers.push(blob.clone());
        said_bytes.push(slice.tar_bytes + report.way_bytes);
        for item in &slice.items {
            match item {
                Item::Entry(id) => {
                    let node = tree.node(*id);
                    let doubtful = is_recent(node, tree) || (frozen && node.kind == Kind::File);
                    held[*id as usize] = if doubtful { Held::by(layer).suspected() } else { Held::by(layer) };
                }
                Item::Opaque(id) => mentions.push(&tree.path(*id), layer, Mark::Opaque),
                Item::Removal(n) => {
                    if let Some(removal) = changes.removals.get(*n as usize) {
                        mentions.push(&removal.path(tree), layer, Mark::Whiteout);
                    }
                }
            }
        }
        for id in &report.suspect {
            held[*id as usize] = held[*id as usize].suspected();
        }
        for id in &report.missing {
            held[*id as usize] = Held::NOWHERE;
        }
    }
    mentions.sort();
    Index {
        base: base.clone(),
        layers,
        said_bytes,
        rules: rules.to_owned(),
        tree: tree.clone(),
        held,
        mentions,
    }
}

fn kept<T: Clone>(changes: &ChangeSet, of_layers: Option<&Vec<T>>) -> Vec<T> {
    let of_layers = of_layers.map_or(&[][..], Vec::as_slice);
    changes.kept.iter().filter_map(|layer| of_layers.get(usize::from(*layer))).cloned().collect()
}

/// Whether an entry changed in the tick of its walk, or later by its own account.
fn is_recent(node: &Node, tree: &Tree) -> bool {
    node.kind != Kind::Whiteout && node.ctime_nanos >= tree.walked_at_nanos.saturating_sub(TICK_NANOS)
}

impl super::delta::Removal {
    /// The path of what is gone.
    pub fn path(&self, tree: &Tree) -> Vec<u8> {
        join(tree, self.parent, &self.name)
    }
}

fn join(tree: &Tree, parent: NodeId, name: &[u8]) -> Vec<u8> {
    let mut path = tree.path(parent);
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
