//! Saving: a container's writable layer becomes layer blobs in a registry.
//!
//! | room | what is in it |
//! |---|---|
//! | [`codec`] | blocks of tar, compressed |
//! | [`pipeline`] | one layer on its way up: tar, digest, blocks, digest, upload |
//! | [`error`] | what can go wrong |

pub mod codec;
pub mod error;
pub mod pipeline;

pub use codec::Codec;
pub use error::SaveError;
pub use pipeline::{LayerBlob, Pool, PoolSettings, Progress, Upstream, upload_layer};
