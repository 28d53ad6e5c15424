//! What can go wrong with a save, and what it means for a job.

use crate::error::RegistryError;
use mothball_domain::failure::{Failure, FailureClass};
use std::io;

/// What can go wrong with a save.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The registry refused or broke.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The container's files, or the node's disk, cannot be read or written.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried, a verb phrase.
        what: String,
        /// The system's words.
        source: io::Error,
    },
    /// The save was told to stop; nothing of it is left in the registry's uploads.
    #[error("the save was stopped")]
    Cancelled,
    /// The base image's layers are neither in the registry nor in what Docker exported.
    #[error("the base image's layers cannot be had: {0}")]
    Base(String),
    /// A defect: what the code relies on is not so.
    #[error("a defect of the save: {0}")]
    Defect(String),
}

impl SaveError {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    /// What a job that ends with this error shows its owner.
    pub fn failure(&self) -> Failure {
        let message = self.to_string();
        match self {
            Self::Registry(error) => error.failure(),
            Self::Io { source, .. } if is_disk_full(source) => {
                Failure::transient(FailureClass::NodeDisk, message)
            }
            Self::Io { .. } => Failure::transient(FailureClass::Engine, message),
            Self::Cancelled => Failure::transient(FailureClass::Timeout, message),
            Self::Base(_) => Failure::permanent(FailureClass::Engine, message),
            Self::Defect(_) => Failure::transient(FailureClass::Internal, message),
        }
    }

    /// Why the layer cannot be saved so at all, by its own nature; Docker may well commit it.
    pub fn unsuitable(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::Unsupported => {
                Some(source.to_string())
            }
            _ => None,
        }
    }

    /// Whether the same slice may go through when it is sent once more from its beginning.
    pub(crate) fn may_be_redone(&self) -> bool {
        // Silence has been waited for long enough.
        let silent = matches!(self, Self::Registry(RegistryError::Timeout { .. }));
        matches!(self, Self::Registry(error) if error.is_passing() || error.is_upload_lost()) && !silent
    }
}

fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
