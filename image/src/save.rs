//! Saving: a container's writable layer becomes layer blobs in a registry.
//!
//! | room | what is in it |
//! |---|---|
//! | [`codec`] | blocks of tar, compressed |
//! | [`pipeline`] | one layer on its way up: tar, digest, blocks, digest, upload |
//! | [`base`] | the base image's layers: found, taken over, or exported once |
//! | [`assemble`] | config and manifest of the saved image |
//! | [`error`] | what can go wrong |

pub mod assemble;
pub mod base;
pub mod codec;
pub mod error;
pub mod pipeline;

pub use assemble::{Assembled, Parts, Provenance, assemble};
pub use base::{BaseCache, base_layers};
pub use codec::Codec;
pub use error::SaveError;
pub use pipeline::{Pool, PoolSettings, Progress, Upstream, upload_layer};
