//! snapshot: save a container as an image, prove the image, and delete the container when that was asked for.
//!
//! preflight, read, upload, finish, verify, record, [delete container]. A container that is only saved is frozen for the
//! read; one that is deleted afterwards is frozen from the read until it is gone, so that nothing it writes after the
//! saved instant is lost. Any failure or cancel thaws it, as it was.

mod engine;
mod finish;
pub(crate) mod leftovers;
mod preflight;
mod remove;

use crate::attempt::Attempt;
use crate::delete::check_node;
use crate::freeze::Freeze;
use crate::halt::{Halt, Stop};
use crate::way::Way;
use mothball_domain::billing::{Stored, sentences};
use mothball_domain::container::Container;
use mothball_domain::exclude::Exclude;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::image::{ImageRef, repository};
use mothball_domain::job::{JobSpec, PauseMode, Step, Then};
use mothball_domain::node::SnapshotWay;
use mothball_store::Effect;
use preflight::Ready;
use std::time::Duration;
use tokio::time::Instant;

/// What the request says.
pub(crate) struct Request {
    pub(crate) image: ImageRef,
    pub(crate) then: Then,
    pub(crate) pause: PauseMode,
    pub(crate) discard_volumes: bool,
    pub(crate) excludes: Vec<Exclude>,
}

/// Saves the job's container, and removes it if the request says so.
pub(crate) async fn run(attempt: &mut Attempt) -> Result<Effect, Halt> {
    let JobSpec::Snapshot { image, then, pause, discard_volumes, excludes } = attempt.job.spec.clone() else {
        return Err(Failure::permanent(FailureClass::Internal, "not a snapshot job").into());
    };
    let request = Request { image, then, pause, discard_volumes, excludes };
    let done = steps(attempt, &request).await;
    if !goes_on_from_here(attempt, then, &done) {
        leftovers::remove_of_job(attempt, &request.image).await;
    }
    done
}

async fn steps(attempt: &mut Attempt, request: &Request) -> Result<Effect, Halt> {
    let container = attempt.container().await?;
    check_node(attempt, &container)?;
    attempt.step(Step::Preflight).await?;
    let begun = Instant::now();
    let done = match preflight::check(attempt, &container, request).await? {
        preflight::Found::Container(ready) => {
            let done = if request.then.removes() {
                save_and_remove(attempt, &container, request, &ready).await?
            } else {
                save(attempt, &container, request, &ready).await?
            };
            note_pace(attempt, &ready, begun.elapsed());
            done
        }
        // The last attempt proved the image and removed the container, and died before it could say so.
        preflight::Found::Removed => Effect::Removed,
    };
    if request.then == Then::Park {
        money_line(attempt, &container);
    }
    Ok(done)
}

/// Remembers how long the save took, for those who ask how long the next one will. A later attempt does what the earlier ones
/// left: its time is not that of a save.
fn note_pace(attempt: &Attempt, ready: &Ready, time: Duration) {
    if attempt.job.attempt == 1 && matches!(ready.way, Way::Engine(_)) {
        attempt.node.rates.note(SnapshotWay::Engine, ready.writable_bytes, time);
    }
}

/// Says what the park saves.
fn money_line(attempt: &mut Attempt, container: &Container) {
    let settings = &attempt.parts.settings;
    let stored = Stored {
        bytes: attempt.checkpoint.size_bytes.unwrap_or_default(),
        price_per_gb_month: settings.storage_price,
    };
    let line = sentences::park(&container.rate(), &stored, &settings.currency);
    attempt.note(line);
}

/// Whether another attempt, or another worker, goes on from what this one has committed.
fn goes_on_from_here(attempt: &Attempt, then: Then, done: &Result<Effect, Halt>) -> bool {
    match done {
        Err(Halt::Stopped(Stop::Lost)) => true,
        Err(Halt::Stopped(Stop::Interrupted)) => !then.removes(),
        Err(Halt::Failed(failure)) => {
            !then.removes() && !failure.is_permanent() && attempt.job.has_attempts_left()
        }
        Err(Halt::Stopped(Stop::Cancelled)) | Ok(_) => false,
    }
}

/// Saves a container that goes on running: frozen while Docker copies its layer, and no longer.
async fn save(
    attempt: &mut Attempt,
    container: &Container,
    request: &Request,
    ready: &Ready,
) -> Result<Effect, Halt> {
    let repo = repository(&attempt.job.project, &request.image.name);
    attempt.step(Step::Read).await?;
    if !engine::is_committed(attempt).await? {
        if request.pause == PauseMode::Never {
            attempt.note("The container was not frozen, as asked: files written during the save may be half written in the image.");
            attempt.checkpoint.committed = Some(engine::commit(attempt, ready).await?);
        } else {
            let freeze = Freeze::begin(attempt, &ready.facts.id).await?;
            let committed = engine::commit(attempt, ready).await;
            let checked = match committed {
                Ok(image) => freeze.check(attempt).await.map(|()| image),
                Err(halt) => Err(halt),
            };
            freeze.thaw(attempt).await;
            attempt.save_unless_lost().await;
            attempt.checkpoint.committed = Some(checked?);
        }
        attempt.save().await?;
    }
    let digest = engine::to_registry(attempt, &repo, container, ready).await?;
    finish::prove(attempt, container, request, &repo, &digest).await?;
    Ok(Effect::None)
}

/// Saves and removes: frozen from the read until the container is gone. Every attempt reads anew, because the container
/// ran between two attempts.
async fn save_and_remove(
    attempt: &mut Attempt,
    container: &Container,
    request: &Request,
    ready: &Ready,
) -> Result<Effect, Halt> {
    attempt.checkpoint = mothball_domain::job::Checkpoint::default();
    if request.pause == PauseMode::Never {
        attempt.note("The container was frozen although that was not wanted: without it, what it wrote last would be lost with it.");
    }
    attempt.step(Step::Read).await?;
    let repo = repository(&attempt.job.project, &request.image.name);
    let limit = attempt.parts.settings.frozen_max;
    let freeze = Freeze::begin(attempt, &ready.facts.id).await?;
    let saving = async {
        attempt.checkpoint.committed = Some(engine::commit(attempt, ready).await?);
        let digest = engine::to_registry(attempt, &repo, container, ready).await?;
        finish::prove(attempt, container, request, &repo, &digest).await
    };
    let saved = tokio::time::timeout(limit, saving).await.unwrap_or_else(|_| {
        let sentence = format!("the save took longer than the {} s a container may stay frozen", limit.as_secs());
        let hint = "Save the container first while it runs, then save and delete; or ask the operator to raise worker.frozen_max.";
        Err(Failure::permanent(FailureClass::Timeout, sentence).with_hint(hint).into())
    });
    // Outside of the limit: a removal that has begun is seen to its end.
    let removed = match saved {
        Ok(()) => remove::remove_proven(attempt, &freeze, request).await,
        Err(halt) => Err(halt),
    };
    match removed {
        Ok(()) => {
            freeze.forget(attempt).await;
            Ok(Effect::Removed)
        }
        Err(halt) => {
            freeze.thaw(attempt).await;
            Err(halt)
        }
    }
}
