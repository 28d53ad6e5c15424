//! What can go wrong when an image is restored, and what it means for a job.

use crate::error::RegistryError;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::image::Digest;
use std::io;

/// What can go wrong when an image is restored. Whatever it is, the upper directory is as empty as before.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// This image cannot be restored into an upper directory; a pull may well take it.
    #[error("the image cannot be restored in place: {reason}")]
    Unsuitable {
        /// Why, as a clause.
        reason: String,
    },
    /// A layer is not what it should be: broken, or made to harm.
    #[error("layer {digest} cannot be unpacked: {detail}")]
    Layer {
        /// The layer's blob.
        digest: Digest,
        /// What is wrong with it.
        detail: String,
    },
    /// The image holds more than the settings allow.
    #[error("the image holds more than {limit} {unit}, the limit set for a restore")]
    TooLarge {
        /// The bound.
        limit: u64,
        /// Of what: `bytes` or `entries`.
        unit: &'static str,
    },
    /// The node's file system.
    #[error("cannot {what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's words.
        error: io::Error,
    },
    /// It was cancelled.
    #[error("the restore was cancelled")]
    Cancelled,
    /// A thread of the restore broke down.
    #[error("the restore broke down: {0}")]
    Broken(String),
}

impl RestoreError {
    /// What a job that ends with this error shows its owner.
    pub fn failure(&self) -> Failure {
        use FailureClass as Class;
        let message = self.to_string();
        match self {
            Self::Registry(error) => error.failure(),
            Self::Unsuitable { .. } | Self::Layer { .. } => Failure::permanent(Class::Registry, message),
            Self::TooLarge { .. } => Failure::permanent(Class::TooLarge, message),
            Self::Io { error, .. } if is_full(error) => Failure::transient(Class::NodeDisk, message),
            Self::Io { .. } | Self::Cancelled | Self::Broken(_) => {
                Failure::transient(Class::Internal, message)
            }
        }
    }

    /// Whether the same image may well come by an ordinary pull: it is this way that does not take it.
    pub fn may_be_pulled(&self) -> bool {
        matches!(self, Self::Unsuitable { .. } | Self::Layer { .. })
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Turns an error of the file system into ours.
pub(super) fn at<E: Into<io::Error>>(what: impl FnOnce() -> String) -> impl FnOnce(E) -> RestoreError {
    move |error| RestoreError::Io { what: what(), error: error.into() }
}
