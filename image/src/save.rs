//! Saving: a container's writable layer becomes layer blobs in a registry.
//!
//! | room | what is in it |
//! |---|---|
//! | [`passes`] | a save: live passes, a frozen one, and what comes out |
//! | [`exclude`] | what is never saved |
//! | [`delta`] | what layers must say so that on top of those that are kept they show the tree |
//! | [`slices`] | the changes cut into layers of about one size |
//! | [`source`] | a slice's bytes, read from a tree that changes meanwhile |
//! | [`record`] | what the image holds once slices are uploaded: the index for the next pass |
//! | [`compact`] | which layers are not worth keeping |
//! | [`codec`] | blocks of tar, compressed |
//! | [`pipeline`] | one layer on its way up: tar, digest, blocks, digest, upload |
//! | [`base`] | the base image's layers: found, taken over, or exported once |
//! | [`assemble`] | config and manifest of the saved image |
//! | [`error`] | what can go wrong |

pub mod assemble;
pub mod base;
pub mod codec;
pub mod compact;
pub mod delta;
pub mod error;
pub mod exclude;
pub mod passes;
pub mod pipeline;
pub mod record;
pub mod slices;
pub mod source;

mod spool;

#[cfg(test)]
mod model;

pub use assemble::{Assembled, Parts, Provenance, assemble};
pub use base::{BaseCache, base_layers};
pub use codec::Codec;
pub use compact::{Limits, layers_to_rewrite};
pub use delta::{ChangeSet, Item, LayerSet, Removal};
pub use error::SaveError;
pub use exclude::Rules;
pub use passes::{
    Churn, Earlier, FrozenReport, OnSlice, Preview, Save, SaveReport, SaveSettings, SavedLayers, preview,
};
pub use pipeline::{Pool, PoolSettings, Progress, Upstream, upload_layer};
pub use record::{Sent, record};
pub use slices::{Slice, slices, slices_of_size};
pub use source::{SliceReport, Source};
pub use spool::SpoolSettings;
