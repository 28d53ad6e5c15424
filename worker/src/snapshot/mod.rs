//! snapshot: save a container as an image, prove the image, and delete the container when that was asked for.
//!
//! preflight, read, upload, finish, verify, record, [delete container]. Two ways lead to the manifest in the registry, and the
//! preflight chooses: [`direct`], where the worker reads the container's layer itself, and [`engine`], by Docker commit and
//! push. What comes before and after is one.
//!
//! A container that is only saved is frozen for as short as its way allows; one that is deleted afterwards is frozen until
//! it is gone, so that nothing it writes after the saved instant is lost. Any failure or cancel thaws it, as it was.

mod direct;
mod engine;
mod finish;
pub(crate) mod leftovers;
mod preflight;
mod remove;

use crate::adopted;
use crate::attempt::Attempt;
use crate::delete::check_node;
use crate::freeze::Freeze;
use crate::halt::{Halt, Stop};
use crate::survey::warn::Warnings;
use crate::way::Way;
use direct::Direct;
pub(crate) use direct::accept;
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

/// Why a save does not go on the way that it took.
enum Unfit {
    /// The container's layer cannot be saved directly, for this reason.
    Layer(String),
    /// For a reason that holds for any way.
    Halt(Halt),
}

impl Unfit {
    fn halt(self) -> Halt {
        match self {
            Self::Halt(halt) => halt,
            Self::Layer(why) => Failure::permanent(FailureClass::Engine, why).into(),
        }
    }
}

impl<T: Into<Halt>> From<T> for Unfit {
    fn from(halt: T) -> Self {
        Self::Halt(halt.into())
    }
}

/// Saves the job's container, and removes it if the request says so.
pub(crate) async fn run(attempt: &mut Attempt) -> Result<Effect, Halt> {
    let JobSpec::Snapshot { image, then, pause, discard_volumes, excludes } = attempt.job.spec.clone() else {
        return Err(Failure::permanent(FailureClass::Internal, "not a snapshot job").into());
    };
    let request = Request { image, then, pause, discard_volumes, excludes };
    let container = attempt.container().await?;
    check_node(attempt, &container)?;
    attempt.step(Step::Preflight).await?;
    let container = adopted::recorded(attempt, container).await?;
    let done = steps(attempt, &container, &request).await;
    if done.is_ok() && request.then == Then::Park {
        money_line(attempt, &container);
    }
    done
}

async fn steps(attempt: &mut Attempt, container: &Container, request: &Request) -> Result<Effect, Halt> {
    let mut ready = match preflight::check(attempt, container, request).await {
        Ok(preflight::Found::Container(ready)) => ready,
        // The last attempt proved the image and removed the container, and died before it could say so.
        Ok(preflight::Found::Removed) => return Ok(Effect::Removed),
        Err(halt) => {
            let (done, committed) = (Err(halt), attempt.checkpoint.committed.is_some());
            clean_up(attempt, request, committed, &done).await;
            return done;
        }
    };
    let begun = Instant::now();
    let mut warnings = Warnings::begin(attempt, &ready.facts, &request.excludes);
    let done = match by_its_way(attempt, container, request, &ready, &mut warnings).await {
        Err(Unfit::Layer(why)) => match preflight::fall_back(attempt, request, &mut ready, why).await {
            Ok(()) => {
                by_its_way(attempt, container, request, &ready, &mut warnings).await.map_err(Unfit::halt)
            }
            Err(halt) => Err(halt),
        },
        done => done.map_err(Unfit::halt),
    };
    warnings.tell_if_seen(attempt);
    drop(warnings);
    if done.is_ok() {
        note_pace(attempt, &ready, begun.elapsed());
    }
    let by_engine = !matches!(ready.way, Way::Direct(_)) || attempt.checkpoint.committed.is_some();
    clean_up(attempt, request, by_engine, &done).await;
    done
}

/// Remembers how long the save took, for those who ask how long the next one will. A later attempt does what the earlier ones
/// left: its time is not that of a save.
fn note_pace(attempt: &Attempt, ready: &Ready, time: Duration) {
    // The direct way notes its own, of what it truly read.
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

async fn by_its_way(
    attempt: &mut Attempt,
    container: &Container,
    request: &Request,
    ready: &Ready,
    warnings: &mut Warnings,
) -> Result<Effect, Unfit> {
    // On the heap: all that a save needs is much for a thread's stack.
    if request.then.removes() {
        Box::pin(save_and_remove(attempt, container, request, ready, warnings)).await
    } else {
        Box::pin(save(attempt, container, request, ready, warnings)).await
    }
}

/// Takes away what Docker has made for this job, unless somebody goes on from it. The direct way makes nothing that outlives
/// its attempt.
async fn clean_up(attempt: &mut Attempt, request: &Request, by_engine: bool, done: &Result<Effect, Halt>) {
    if by_engine && !goes_on_from_here(attempt, request.then, done) {
        leftovers::remove_of_job(attempt, &request.image).await;
    }
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

/// Saves a container that goes on running.
async fn save(
    attempt: &mut Attempt,
    container: &Container,
    request: &Request,
    ready: &Ready,
    warnings: &mut Warnings,
) -> Result<Effect, Unfit> {
    let repo = repository(&attempt.job.project, &request.image.name);
    attempt.step(Step::Read).await?;
    let digest = match (&ready.way, attempt.checkpoint.manifest.clone()) {
        // An earlier attempt has come that far.
        (Way::Direct(_), Some(digest)) => digest,
        (Way::Direct(upper), None) => {
            let mut direct = Direct::begin(attempt, container, request, ready, upper, &repo).await?;
            direct::keep(attempt, request, &mut direct).await?
        }
        (Way::Engine(_) | Way::Closed(_), _) => {
            engine::keep(attempt, container, request, ready, &repo).await?
        }
    };
    finish::prove(attempt, container, request, &repo, &digest).await?;
    warnings.tell(attempt).await;
    Ok(Effect::None)
}

/// Saves and removes: frozen from the last read until the container is gone. Every attempt reads anew, because the container
/// ran between two attempts.
async fn save_and_remove(
    attempt: &mut Attempt,
    container: &Container,
    request: &Request,
    ready: &Ready,
    warnings: &mut Warnings,
) -> Result<Effect, Unfit> {
    attempt.checkpoint = mothball_domain::job::Checkpoint::default();
    if request.pause == PauseMode::Never {
        attempt.note("The container was frozen although that was not wanted: without it, what it wrote last would be lost with it.");
    }
    attempt.step(Step::Read).await?;
    let repo = repository(&attempt.job.project, &request.image.name);
    let mut direct = match &ready.way {
        Way::Direct(upper) => {
            let mut direct = Direct::begin(attempt, container, request, ready, upper, &repo).await?;
            if request.pause != PauseMode::Always {
                direct.live(attempt).await?;
            }
            Some(direct)
        }
        Way::Engine(_) | Way::Closed(_) => None,
    };
    let limit = attempt.parts.settings.frozen_max;
    let freeze = Freeze::begin(attempt, &ready.facts.id).await?;
    let saving = async {
        let digest = if let Some(direct) = &mut direct {
            direct.rest(attempt).await?;
            direct.finish(attempt).await?
        } else {
            attempt.checkpoint.committed = Some(engine::commit(attempt, ready).await?);
            engine::to_registry(attempt, &repo, container, ready).await?
        };
        finish::prove(attempt, container, request, &repo, &digest).await?;
        // With the container its files go, too: what is to be seen of them must have been seen.
        warnings.tell(attempt).await;
        Ok::<_, Unfit>(())
    };
    let saved = tokio::time::timeout(limit, saving).await.unwrap_or_else(|_| {
        let sentence = format!("the save took longer than the {} s a container may stay frozen", limit.as_secs());
        let hint = "Save the container first while it runs, then save and delete; or ask the operator to raise worker.frozen_max.";
        Err(Failure::permanent(FailureClass::Timeout, sentence).with_hint(hint).into())
    });
    // Outside of the limit: a removal that has begun is seen to its end.
    let removed = match saved {
        Ok(()) => remove::remove_proven(attempt, &freeze, request).await.map_err(Unfit::from),
        Err(unfit) => Err(unfit),
    };
    match removed {
        Ok(()) => {
            freeze.forget(attempt).await;
            Ok(Effect::Removed)
        }
        Err(unfit) => {
            freeze.thaw(attempt).await;
            Err(unfit)
        }
    }
}
