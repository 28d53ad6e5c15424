//! What a saved image holds, and in which of its layers: what makes the next save a small one.
//!
//! It is a cache, never the truth: with any doubt about it there is none, and the next save reads everything. It may
//! describe a save that died half-way; then what is in no finished layer is simply held nowhere.

mod file;
mod mentions;

pub use mentions::{Mark, Mention, Mentions, tree_order};

use super::tree::{NodeId, Tree};
use mothball_domain::image::Digest;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The number of one of our layers in its image: 0 is the oldest, right on top of the base.
pub type LayerNumber = u16;

/// A layer as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerBlob {
    /// The blob's digest: of the compressed bytes.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// The digest of the tar itself.
    pub diff_id: Digest,
    /// The blob's media type.
    pub media_type: String,
    /// The tar's size in bytes.
    pub raw_bytes: u64,
}

/// What an image stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The base image's id, the digest of its config.
    pub image_id: String,
    /// Its layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

/// Where an entry's current content is, and whether that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held(u16);

impl Held {
    /// In no layer.
    pub const NOWHERE: Self = Self(Self::NUMBERS);
    const NUMBERS: u16 = 0x7fff;
    const SUSPECT: u16 = 0x8000;

    /// In this layer, as it was when it was looked at.
    pub fn by(layer: LayerNumber) -> Self {
        Self(layer & Self::NUMBERS)
    }

    /// The same, but what is in the layer may be older than it looks: the next save sends it again.
    #[must_use]
    pub fn suspected(self) -> Self {
        Self(self.0 | Self::SUSPECT)
    }

    /// The layer; nothing where there is none.
    pub fn layer(self) -> Option<LayerNumber> {
        let number = self.0 & Self::NUMBERS;
        (number != Self::NUMBERS).then_some(number)
    }

    /// Whether the content in the layer may be older than it looks.
    pub fn is_suspect(self) -> bool {
        self.0 & Self::SUSPECT != 0
    }
}

/// What a saved image holds.
#[derive(Debug, Clone)]
pub struct Index {
    /// What it stands on.
    pub base: Base,
    /// Our own layers, oldest first.
    pub layers: Vec<LayerBlob>,
    /// For each layer, about how many bytes of its tar are what it says, directories on the way included.
    pub(crate) said_bytes: Vec<u64>,
    /// A fingerprint of the rules by which entries were left out.
    pub rules: String,
    /// The tree that the image shows on top of its base.
    pub(crate) tree: Arc<Tree>,
    /// For each of its entries.
    pub(crate) held: Vec<Held>,
    /// What the layers hold besides: older contents, whiteouts of what older layers of ours hold, opaque marks.
    pub(crate) mentions: Mentions,
}

impl Index {
    /// The tree that the image shows on top of its base.
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Where an entry of the tree is.
    pub fn held(&self, id: NodeId) -> Held {
        self.held[id as usize]
    }

    /// For each layer, about how many bytes of its tar the image still shows.
    pub fn live_bytes(&self) -> Vec<u64> {
        let mut live = vec![0; self.layers.len()];
        for (node, held) in self.tree.nodes.iter().zip(&self.held) {
            if let Some(bytes) = held.layer().and_then(|layer| live.get_mut(usize::from(layer))) {
                *bytes += node.tar_bytes();
            }
        }
        live
    }
}
