//! Why an attempt does not go on: it failed, or it must stop.

use crate::docker::DockerError;
use crate::guard::GuardError;
use crate::lock::LockError;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_image::RegistryError;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// Why a running attempt must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The job's owner wants it stopped.
    Cancelled,
    /// The worker is shutting down.
    Interrupted,
    /// The lease is another's, or cannot be shown to be ours: no further effect is allowed.
    Lost,
}

/// Why an attempt does not go on.
#[derive(Debug)]
pub(crate) enum Halt {
    /// A step failed.
    Failed(Failure),
    /// It must stop.
    Stopped(Stop),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<DockerError> for Halt {
    fn from(error: DockerError) -> Self {
        Self::Failed(error.failure())
    }
}

impl From<RegistryError> for Halt {
    fn from(error: RegistryError) -> Self {
        Self::Failed(error.failure())
    }
}

impl From<GuardError> for Halt {
    fn from(error: GuardError) -> Self {
        Self::Failed(Failure::transient(
            FailureClass::Internal,
            format!("the container cannot be guarded: {error}"),
        ))
    }
}

impl From<LockError> for Halt {
    fn from(error: LockError) -> Self {
        let sentence = match error {
            LockError::Held(_) => "another worker process still acts on this container".to_owned(),
            LockError::Io { .. } => format!("the container's lock cannot be used: {error}"),
        };
        Self::Failed(Failure::transient(FailureClass::Internal, sentence))
    }
}

/// Tells an attempt to stop. The first reason counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopSignal {
    token: CancellationToken,
    why: Arc<OnceLock<Stop>>,
}

impl StopSignal {
    /// Asks the attempt to stop.
    pub(crate) fn stop(&self, why: Stop) {
        let _ = self.why.set(why);
        self.token.cancel();
    }

    /// Ends with the reason once there is one.
    pub(crate) async fn stopped(&self) -> Stop {
        self.token.cancelled().await;
        self.why.get().copied().unwrap_or(Stop::Interrupted)
    }

    /// The reason, if there is one.
    pub(crate) fn check(&self) -> Result<(), Halt> {
        match self.why.get() {
            Some(why) => Err(Halt::Stopped(*why)),
            None => Ok(()),
        }
    }

    /// For calls that take a token to stop by.
    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }
}
