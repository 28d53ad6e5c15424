//! Freezing, thawing, starting, stopping, removing. Each may be done again: what counts is where it leads.

use super::{ContainerStatus, DockerError, Engine};
use bollard::query_parameters::{
    RemoveContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Whether a call changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Changed {
    /// It did.
    Yes,
    /// It was so already.
    No,
}

/// How a removal ended; in both cases the container is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Removal {
    /// It was there, and is gone.
    Removed,
    /// It was not there.
    NotFound,
}

/// The pause between two tries to freeze.
const FREEZE_AGAIN: Duration = Duration::from_millis(50);
/// How often a removal that somebody else began is looked after.
const REMOVAL_POLL: Duration = Duration::from_millis(200);

impl Engine {
    /// Freezes a container. Idempotent: one that somebody else has frozen stays so, and the answer says that it was. A
    /// container that does not run cannot be frozen and is refused; one that is too busy is tried again within the limit.
    pub async fn pause(&self, container: &str) -> Result<Changed, DockerError> {
        let deadline = Instant::now() + self.limits.call;
        loop {
            let Err(error) = self.pause_once(container).await else { return Ok(Changed::Yes) };
            let refused = matches!(error, DockerError::Refused { .. });
            // Docker's texts and codes differ between versions; the state does not.
            if self.inspect(container).await?.is_some_and(|facts| facts.is_paused()) {
                // What was refused was not done, so that it is somebody else's freeze; where the answer was lost it may be
                // ours, and nobody else might ever thaw it.
                return Ok(if refused { Changed::No } else { Changed::Yes });
            }
            // runc under cgroup v1 gives up, and lets all go on, when processes that wait for the disk do not stop
            // soon enough (seen with a few busy writers).
            let text = error.to_string();
            // The other: whoever had frozen it has thawed it since.
            let passing = ["unable to freeze", "already paused"].iter().any(|words| text.contains(words));
            if Instant::now() >= deadline || !passing {
                return Err(error);
            }
            sleep(FREEZE_AGAIN).await;
        }
    }

    async fn pause_once(&self, container: &str) -> Result<(), DockerError> {
        let limit = self.limits.call;
        self.call("freeze container", limit, |d| async move { d.pause_container(container).await }).await
    }

    /// Thaws a container. Idempotent: one that is not frozen, running or not, is left alone.
    pub async fn unpause(&self, container: &str) -> Result<Changed, DockerError> {
        let what = "thaw container";
        let done =
            self.call(what, self.limits.call, |d| async move { d.unpause_container(container).await }).await;
        let Err(error) = done else { return Ok(Changed::Yes) };
        match self.inspect(container).await? {
            Some(facts) if !facts.is_paused() => Ok(Changed::No),
            _ => Err(error),
        }
    }

    /// Starts a container. Idempotent: Docker answers "not modified" for one that runs. Success means that Docker
    /// started it, not that it still runs.
    pub async fn start(&self, container: &str) -> Result<(), DockerError> {
        self.call("start container", self.limits.slow, |d| async move {
            d.start_container(container, None::<StartContainerOptions>).await
        })
        .await
    }

    /// Asks its first process to end, and ends all by force after `grace`. Idempotent.
    pub async fn stop(&self, container: &str, grace: Duration) -> Result<(), DockerError> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        self.call("stop container", grace.saturating_add(self.limits.slow), |d| async move {
            d.stop_container(container, Some(options)).await
        })
        .await
    }

    /// Removes a container, with its anonymous volumes when `volumes`. Idempotent. A removal that has begun already
    /// is waited for.
    pub async fn remove(&self, container: &str, force: bool, volumes: bool) -> Result<Removal, DockerError> {
        let what = "remove container";
        let options = RemoveContainerOptionsBuilder::default().force(force).v(volumes).build();
        let done =
            self.call(what, self.limits.slow, |d| async move {
                d.remove_container(container, Some(options)).await
            })
            .await;
        match done {
            Ok(()) => Ok(Removal::Removed),
            Err(e) if e.is_not_found() => Ok(Removal::NotFound),
            Err(DockerError::Refused { status: 409, message, .. })
                if message.contains("already in progress") =>
            {
                self.wait_until_removed(container).await
            }
            Err(e) => Err(e),
        }
    }

    async fn wait_until_removed(&self, container: &str) -> Result<Removal, DockerError> {
        let what = "remove container";
        let deadline = Instant::now() + self.limits.slow;
        loop {
            match self.inspect(container).await? {
                None => return Ok(Removal::Removed),
                // The other removal failed; the next attempt begins anew.
                Some(facts) if facts.status == ContainerStatus::Dead => {
                    let message = "another removal of it failed".to_owned();
                    return Err(DockerError::Refused { what, status: 500, message });
                }
                Some(_) if Instant::now() >= deadline => {
                    return Err(DockerError::Timeout { what, limit: self.limits.slow });
                }
                Some(_) => sleep(REMOVAL_POLL).await,
            }
        }
    }
}
