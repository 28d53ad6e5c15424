//! Freezing a container for as long as a save needs it, and never a moment longer, whatever happens.
//!
//! Before the freeze the intent is durable, in the node's journal and in the job's checkpoint, and a guard process stands
//! by. The thaw runs on its own time, not on the attempt's: a cancelled, failed or lost attempt thaws all the same.

use crate::attempt::Attempt;
use crate::docker::{Changed, ContainerFacts, ContainerStatus, DockerError, Engine, RunWatch};
use crate::guard::{Guard, GuardPost};
use crate::halt::Halt;
use crate::journal::FreezeJournal;
use crate::node::SeenTo;
use jiff::Timestamp;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::job::Frozen;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a thaw is tried: longer than Docker takes to restart. The guard goes on after that.
const THAW_PATIENCE: Duration = Duration::from_mins(2);
/// What a check says when the container ran.
pub(crate) const RAN: &str = "the container was thawed or started by somebody else while it was being saved";
/// The longest wait between two tries to thaw.
const THAW_AGAIN_MAX: Duration = Duration::from_secs(2);

/// A container that does not change as long as this lives, as far as Docker can tell.
pub(crate) struct Freeze {
    docker_id: String,
    /// Ours to thaw; none where the container did not run, or its user had frozen it.
    held: Option<Held>,
    /// Whether it is frozen, by us or by its user.
    frozen: bool,
    watch: RunWatch,
    /// As long as this lives, the sweep leaves the container to it.
    _seen_to: SeenTo,
}

struct Held {
    guard: Guard,
    since: Instant,
}

impl Freeze {
    /// Freezes a running container. One that does not run, or that its user froze, is only watched.
    pub(crate) async fn begin(attempt: &mut Attempt, docker_id: &str) -> Result<Self, Halt> {
        let engine = attempt.parts.engine.clone();
        let mut facts = engine.inspect(docker_id).await?.ok_or_else(removed)?;
        let seen_to = attempt.node.see_to(&facts.id);
        if facts.status != ContainerStatus::Running {
            // First the watch, then the look that counts: what happens in between is seen.
            let watch = engine.watch(docker_id).await?;
            facts = engine.inspect(docker_id).await?.ok_or_else(removed)?;
            if facts.status != ContainerStatus::Running {
                return Ok(Self::of(&facts, watch, seen_to));
            }
        }
        let (guard, watch) = ready(attempt, &engine, &facts.id).await?;
        let mut freeze = Self::of(&facts, watch, seen_to);
        freeze.held = Some(Held { guard, since: Instant::now() });
        // Never dropped half-way: Docker would still freeze the container, after our thaw.
        match engine.pause(&facts.id).await {
            Ok(Changed::Yes) => {
                freeze.frozen = true;
                Ok(freeze)
            }
            Ok(Changed::No) => {
                // Its user froze it since we looked: the freeze is the user's, and so is the thaw.
                freeze.frozen = true;
                if let Some(held) = freeze.held.take() {
                    end(attempt, &facts.id, Some(held.guard)).await;
                }
                attempt.save().await?;
                Ok(freeze)
            }
            Err(error) => {
                // Docker may carry the freeze out yet: the journal's entry stays, and the sweep looks after it.
                freeze.thaw(attempt).await;
                let written = attempt.node.journal().add(&facts.id, &attempt.job.id.to_string());
                if let Err(error) = written {
                    tracing::error!(error = %error, "a freeze of unknown outcome could not be written down");
                }
                Err(error.into())
            }
        }
    }

    fn of(facts: &ContainerFacts, watch: RunWatch, seen_to: SeenTo) -> Self {
        Self { docker_id: facts.id.clone(), held: None, frozen: facts.is_paused(), watch, _seen_to: seen_to }
    }

    /// Whether nothing has let the container run since it was frozen. A watch with a gap leaves that open, and so is an
    /// error.
    pub(crate) async fn check(&self, attempt: &Attempt) -> Result<(), Halt> {
        let facts = attempt.parts.engine.inspect(&self.docker_id).await?.ok_or_else(removed)?;
        let as_it_was = if self.frozen { facts.is_paused() } else { !facts.status.is_alive() };
        if !as_it_was || self.watch.ran().await? {
            return Err(ran());
        }
        Ok(())
    }

    /// Whether the container is frozen, by us or by its user.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Thaws the container, on its own time. What cannot be thawed now is left to the guard and to the journal.
    pub(crate) async fn thaw(mut self, attempt: &mut Attempt) {
        self.let_go(attempt).await;
    }

    /// Thaws the container, and only then asks whether nothing had let it run since it was frozen, as [`Self::check`] does.
    pub(crate) async fn thaw_and_check(mut self, attempt: &mut Attempt) -> Result<(), Halt> {
        match self.let_go(attempt).await {
            None => self.check(attempt).await,
            Some(Thawed::ByUs) if self.watch.ran_besides_own_thaw().await? => Err(ran()),
            Some(Thawed::ByUs) => Ok(()),
            Some(Thawed::Before) => Err(ran()),
            Some(Thawed::Gone) => Err(removed().into()),
            Some(Thawed::NotYet) => {
                let sentence = "Docker did not thaw the container in time; it is tried again until it does";
                Err(Failure::transient(FailureClass::Engine, sentence).into())
            }
        }
    }

    /// Thaws what is ours to thaw; nothing where that is nothing.
    async fn let_go(&mut self, attempt: &mut Attempt) -> Option<Thawed> {
        let held = self.held.take()?;
        let thawed = thaw(attempt, &self.docker_id).await;
        attempt.parts.metrics.pause_seconds.observe(held.since.elapsed().as_secs_f64());
        attempt.note(format!("The container was frozen for {:.2} s.", held.since.elapsed().as_secs_f64()));
        if thawed != Thawed::NotYet {
            end(attempt, &self.docker_id, Some(held.guard)).await;
        }
        // Otherwise the guard, dropped without a word, takes over.
        Some(thawed)
    }

    /// Ends the freeze of a container that is gone.
    pub(crate) async fn forget(mut self, attempt: &mut Attempt) {
        let Some(held) = self.held.take() else { return };
        attempt.parts.metrics.pause_seconds.observe(held.since.elapsed().as_secs_f64());
        end(attempt, &self.docker_id, Some(held.guard)).await;
    }
}

/// Prepares a freeze: the intent is written down, a guard stands by, and a watch is kept. What came before is no news; and
/// from the freeze to the thaw Docker is asked nothing, so that a slow one prolongs nothing.
async fn ready(attempt: &mut Attempt, engine: &Engine, docker_id: &str) -> Result<(Guard, RunWatch), Halt> {
    let post = GuardPost {
        docker_host: attempt.parts.settings.docker_host.clone(),
        docker_id: docker_id.to_owned(),
        locks_dir: attempt.node.locks_dir.clone(),
    };
    attempt.checkpoint.frozen = Some(Frozen { docker_id: docker_id.to_owned(), since: Timestamp::now() });
    attempt.save().await?;
    attempt.node.journal().add(docker_id, &attempt.job.id.to_string()).map_err(|e| {
        let sentence = format!("the freeze of the container cannot be written down: {e}");
        Halt::Failed(Failure::transient(FailureClass::NodeDisk, sentence))
    })?;
    // Side by side: a process to be started, and Docker to be asked.
    match tokio::join!(Guard::start(&attempt.parts.guard, &post), engine.watch(docker_id)) {
        (Ok(guard), Ok(watch)) => Ok((guard, watch)),
        (Ok(guard), Err(error)) => {
            end(attempt, docker_id, Some(guard)).await;
            Err(error.into())
        }
        (Err(error), _) => {
            end(attempt, docker_id, None).await;
            Err(error.into())
        }
    }
}

/// How a thaw ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thawed {
    /// It was frozen, and our thaw let it run.
    ByUs,
    /// It was not frozen any more, or an answer of Docker's was lost.
    Before,
    /// It is not there any more.
    Gone,
    /// Docker has not done it.
    NotYet,
}

fn ran() -> Halt {
    Failure::transient(FailureClass::Engine, RAN).into()
}

fn removed() -> Failure {
    let sentence = "the container was removed by somebody else while it was being saved";
    Failure::transient(FailureClass::Gone, sentence)
}

async fn thaw(attempt: &Attempt, docker_id: &str) -> Thawed {
    let deadline = Instant::now() + THAW_PATIENCE;
    let mut wait = Duration::from_millis(100);
    loop {
        match attempt.parts.engine.unpause(docker_id).await {
            Ok(Changed::Yes) => return Thawed::ByUs,
            Ok(Changed::No) => return Thawed::Before,
            Err(error) if error.is_not_found() => return Thawed::Gone,
            Err(error) => {
                tracing::error!(job.id = %attempt.job.id, container.docker_id = docker_id, error = %error, "the container could not be thawed yet");
            }
        }
        if Instant::now() >= deadline {
            return Thawed::NotYet;
        }
        sleep(wait).await;
        wait = (wait * 2).min(THAW_AGAIN_MAX);
    }
}

async fn end(attempt: &mut Attempt, docker_id: &str, guard: Option<Guard>) {
    if let Some(guard) = guard
        && let Err(error) = guard.done().await
    {
        // It may thaw a container that runs: harmless.
        tracing::warn!(job.id = %attempt.job.id, error = %error, "the guard did not leave in order");
    }
    if let Err(error) = attempt.node.journal().remove(docker_id) {
        tracing::warn!(job.id = %attempt.job.id, error = %error, "an entry of the freeze journal could not be removed");
    }
    attempt.checkpoint.frozen = None;
}

/// How long an entry outlives a freeze whose outcome Docker did not tell: it may freeze the container late.
const ENTRY_KEPT: Duration = Duration::from_mins(10);

/// Thaws what is on the journal and whose job nobody holds any more: what a dead worker left, and what could not be thawed
/// when it should have been. One container that cannot be asked about does not hold up the others.
pub(crate) async fn sweep(engine: &Engine, journal: &FreezeJournal, running: &HashSet<String>) {
    let listed = journal.list().unwrap_or_else(|error| {
        tracing::error!(error = %error, "the freeze journal cannot be read: containers may have been left frozen");
        Vec::new()
    });
    for docker_id in listed.iter().filter(|id| !running.contains(*id)) {
        match sweep_one(engine, journal, docker_id).await {
            Ok(true) => {
                tracing::warn!(container.docker_id = docker_id, "thawed a container that was left frozen");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(container.docker_id = docker_id, error = %error, "a container may still be frozen; trying again");
            }
        }
    }
}

async fn sweep_one(engine: &Engine, journal: &FreezeJournal, docker_id: &str) -> Result<bool, DockerError> {
    let facts = engine.inspect(docker_id).await?;
    let frozen = facts.as_ref().is_some_and(ContainerFacts::is_paused);
    if frozen {
        engine.unpause(docker_id).await?;
    }
    // One that ended with its Docker is frozen by nobody any more.
    let runs = facts.is_some_and(|facts| facts.status.is_alive());
    let settled = frozen || !runs || journal.age(docker_id).is_none_or(|age| age > ENTRY_KEPT);
    if settled && let Err(error) = journal.remove(docker_id) {
        tracing::warn!(error = %error, "an entry of the freeze journal could not be removed");
    }
    Ok(frozen)
}
