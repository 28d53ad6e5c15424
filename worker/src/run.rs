//! Running a claimed job: keep its lease, take its steps, settle it.

use crate::attempt::Attempt;
use crate::halt::{Halt, Stop, StopSignal};
use crate::lease::Keeper;
use crate::lock::FileLock;
use crate::node::NodeContext;
use crate::settings::Parts;
use crate::{delete, delete_image, launch, power, purge_image, restore_image, snapshot};
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::job::{Job, JobSpec};
use mothball_store::{Effect, Outcome, Settled};
use rand::RngExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How long the last word on a job is tried to be written. Without it the job is run again, which is safe but late.
const SETTLE_PATIENCE: Duration = Duration::from_mins(10);
/// The same while the worker is shutting down.
const SETTLE_PATIENCE_AT_SHUTDOWN: Duration = Duration::from_secs(10);
/// How long a run waits for the container's lock: a predecessor that lost its lease is about to let go.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Runs a job that this worker has claimed, to its end.
#[tracing::instrument(name = "job", skip_all, fields(job.id = %job.id, job.kind = %job.kind(), job.fence = %job.fence, attempt = job.attempt))]
pub(crate) async fn run_job(
    parts: Arc<Parts>,
    node: Arc<NodeContext>,
    job: Box<Job>,
    shutdown: CancellationToken,
) {
    let stop = StopSignal::default();
    let (progress, progress_seen) = watch::channel(None);
    let keeper = Keeper {
        store: parts.store.clone(),
        id: job.id,
        fence: job.fence,
        lease: parts.settings.lease,
        stop: stop.clone(),
        progress: progress_seen,
    };
    let ended = CancellationToken::new();
    let started = Instant::now();
    tracing::info!("job begins");
    let mut attempt = Attempt::new(Arc::clone(&parts), node, *job, stop.clone(), progress);
    let work = async {
        let outcome = take_steps(&mut attempt).await;
        settle(&mut attempt, outcome, shutdown.clone()).await;
        ended.cancel();
    };
    let interrupt = async {
        tokio::select! {
            () = shutdown.cancelled() => stop.stop(Stop::Interrupted),
            () = ended.cancelled() => {}
        }
    };
    tokio::join!(work, keeper.keep(ended.clone()), interrupt);
    tracing::info!(duration_ms = started.elapsed().as_millis() as u64, "job left");
}

async fn take_steps(attempt: &mut Attempt) -> Result<Effect, Halt> {
    let _lock = lock_container(attempt).await?;
    thaw_predecessor(attempt).await?;
    let done = match attempt.job.spec.clone() {
        JobSpec::Snapshot { .. } => snapshot::run(attempt).await,
        JobSpec::Delete => delete::run(attempt).await,
        JobSpec::Launch => launch::run(attempt).await,
        JobSpec::DeleteImage { image, digest } => delete_image::run(attempt, &image, &digest).await,
        JobSpec::RestoreImage { image, digest } => restore_image::run(attempt, &image, &digest).await,
        JobSpec::PurgeImage { image, digest } => purge_image::run(attempt, &image, &digest).await,
        JobSpec::Start => power::start(attempt).await,
        JobSpec::Stop => power::stop(attempt).await,
    };
    attempt.end_step();
    done
}

/// One process acts on a container at a time, whatever the store says: a worker that was stopped, lost its lease and is
/// resumed still holds this until it has cleaned up. By the record's number and not by Docker's id, which a launch only
/// comes to know: two attempts must meet at one lock.
async fn lock_container(attempt: &Attempt) -> Result<Option<FileLock>, Halt> {
    let Some(container) = attempt.job.container else { return Ok(None) };
    let name = format!("container-{container}");
    let lock = FileLock::container(&attempt.node.locks_dir, &name, LOCK_PATIENCE);
    Ok(Some(attempt.until_stopped(lock).await?))
}

/// A predecessor's intent to freeze, found in the checkpoint, is undone before anything else.
async fn thaw_predecessor(attempt: &mut Attempt) -> Result<(), Halt> {
    let Some(frozen) = attempt.checkpoint.frozen.clone() else { return Ok(()) };
    // Who thaws takes the journal's entry away: without one the thaw has happened, and a pause that is there is the user's.
    if attempt.node.journal().has(&frozen.docker_id) {
        match attempt.parts.engine.unpause(&frozen.docker_id).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            // The intent stays written down for whoever comes next.
            Err(error) => return Err(error.into()),
        }
        if let Err(error) = attempt.node.journal().remove(&frozen.docker_id) {
            tracing::warn!(error = %error, "an entry of the freeze journal could not be removed");
        }
    }
    attempt.checkpoint.frozen = None;
    attempt.save().await
}

async fn settle(attempt: &mut Attempt, outcome: Result<Effect, Halt>, shutdown: CancellationToken) {
    let outcome = match outcome {
        Ok(effect) => Outcome::Succeeded(effect),
        Err(Halt::Stopped(Stop::Lost)) => {
            tracing::warn!("the job is another's now; left it without a further effect");
            return;
        }
        Err(Halt::Stopped(Stop::Interrupted)) => Outcome::Interrupted,
        Err(Halt::Stopped(Stop::Cancelled)) => Outcome::Cancelled,
        Err(Halt::Failed(failure)) => {
            tracing::warn!(error.class = %failure.class, error = %failure.message, "the attempt failed");
            let random = rand::rng().random();
            Outcome::Failed {
                retry_after: attempt.parts.settings.retry.delay(attempt.job.attempt, random),
                failure,
            }
        }
    };
    // What the steps left in the checkpoint (a thaw, notes) goes with the last word.
    if attempt.save_unless_lost().await {
        write_outcome(attempt, &outcome, &shutdown).await;
    } else {
        tracing::warn!("the job is another's now; its outcome was not written");
    }
}

async fn write_outcome(attempt: &Attempt, outcome: &Outcome, shutdown: &CancellationToken) {
    let begun = Instant::now();
    let mut wait = Duration::from_millis(100);
    loop {
        match attempt.parts.store.settle(attempt.job.id, attempt.job.fence, outcome).await {
            Ok(Settled::Done(job)) => {
                tracing::info!(job.state = %job.state, "job settled");
                return;
            }
            Ok(Settled::Lost) => {
                tracing::warn!("the job is another's now; its outcome was not written");
                return;
            }
            Err(error) => tracing::warn!(error = %error, "the outcome could not be written; trying again"),
        }
        let patience = if shutdown.is_cancelled() { SETTLE_PATIENCE_AT_SHUTDOWN } else { SETTLE_PATIENCE };
        if begun.elapsed() > patience {
            tracing::error!(
                "the outcome was not written; the job will be run again when its lease has ended"
            );
            return;
        }
        sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

/// A failure for a request that cannot be carried out as it stands.
pub(crate) fn refused(sentence: impl Into<String>, hint: &str) -> Halt {
    Halt::Failed(Failure::permanent(FailureClass::Engine, sentence).with_hint(hint))
}
