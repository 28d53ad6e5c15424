//! The direct way: the container's writable layer is read by the worker itself, straight into the registry.
//!
//! While the container runs, passes over its layer send what the registry lacks, until little is left; then it is frozen, the
//! rest is read, and it is thawed at once, or stays frozen until it is removed. What earlier saves have brought is not
//! sent again, nor what an attempt that died had brought: [`Indexes`](crate::indexes::Indexes) remembers both.

mod base;
mod keep;
mod said;

pub(super) use keep::keep;

use super::preflight::Ready;
use super::{Request, Unfit};
use crate::attempt::Attempt;
use crate::halt::Halt;
use base::SaveBase;
use jiff::Timestamp;
use mothball_domain::container::Container;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::image::Digest;
use mothball_domain::job::Step;
use mothball_domain::node::SnapshotWay;
use mothball_image::layer::{Base as Below, Index};
use mothball_image::save::{
    self, Parts, Progress, Provenance, Rules, Save, SaveError, SaveSettings, SavedLayers, Upstream,
};
use mothball_image::{RegistryError, ScrubRules};
use secrecy::SecretString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Images of a registry: repository, and tag or digest.
type Places = Vec<save::base::Place>;

/// Most live passes: a writer that is faster than the upload is frozen after that, however much is left.
const LIVE_PASSES_MAX: u32 = 3;
/// After a live pass that took no longer nobody looks how much is left: what a container writes within it is little, the
/// frozen pass meets it anyway, and in a large layer the look costs more than all that a small save has to do.
const SHORT_PASS: Duration = Duration::from_millis(500);
/// So little, in bytes of content, is left to the frozen pass.
const REST_BYTES: u64 = 32 << 20;
/// So few entries are left to the frozen pass.
const REST_ENTRIES: usize = 10_000;

/// A direct save that is going on.
pub(super) struct Direct<'a> {
    container: &'a Container,
    ready: &'a Ready,
    base: SaveBase,
    to: Upstream,
    /// Until it is finished.
    save: Option<Save>,
    begun: Instant,
}

impl<'a> Direct<'a> {
    /// Begins a save of the container whose writable layer is `upper`.
    pub(super) async fn begin(
        attempt: &Attempt,
        container: &'a Container,
        request: &Request,
        ready: &'a Ready,
        upper: &Path,
        repo: &str,
    ) -> Result<Self, Unfit> {
        let base = attempt.node.base(&ready.facts.image_id).ok_or_else(|| {
            let sentence = "the container's image is gone from the node, and nothing was kept of it";
            Failure::permanent(FailureClass::Gone, sentence)
        })?;
        let to = Upstream {
            registry: attempt.parts.registry.clone(),
            repo: repo.to_owned(),
            pool: Arc::clone(&attempt.node.pool),
            progress: Progress::default(),
            cancel: attempt.stop.token().child_token(),
        };
        let rules = Rules::new(&request.excludes)
            .map_err(|e| Failure::permanent(FailureClass::Internal, e.to_string()))?;
        let below = Below { image_id: base.id.to_string(), diff_ids: base.config.rootfs.diff_ids.clone() };
        let settings = SaveSettings::new(below, rules, &attempt.parts.settings.state_dir);
        let (indexes, id) = (attempt.node.indexes.clone(), ready.facts.id.clone());
        let earlier = tokio::task::spawn_blocking(move || indexes.load(&id)).await.ok().flatten();
        let (indexes, id, to_repo) = (attempt.node.indexes.clone(), ready.facts.id.clone(), repo.to_owned());
        let on_slice = move |index: &Index| {
            if let Err(error) = indexes.save_partial(&id, &to_repo, index) {
                tracing::warn!(%error, "how far the save is could not be written down");
            }
        };
        let begun = Save::begin(to.clone(), upper, settings, earlier, Arc::new(on_slice));
        let save = begun.await.map_err(|e| unfit(attempt, &e))?;
        Ok(Self { container, ready, base: SaveBase::of(base), to, save: Some(save), begun: Instant::now() })
    }

    /// Brings the base, and passes over the container's layer while it runs until little is left to the frozen pass.
    pub(super) async fn live(&mut self, attempt: &mut Attempt) -> Result<(), Unfit> {
        let progress = bytes(&self.to.progress);
        for pass in 1..=LIVE_PASSES_MAX {
            let brought = self.base.brought(attempt, self.container, &self.ready.facts, &self.to);
            // On the heap: all that an upload needs is more than a thread's stack takes several times over.
            let bring = Box::pin(async { brought.await.map(drop).map_err(Unfit::from) });
            let save = self.save.as_mut().ok_or_else(over)?;
            let begun = Instant::now();
            let read = Box::pin(async { save.live_pass().await.map_err(|e| unfit(attempt, &e)) });
            // Side by side, so that all that is to be brought is known soon.
            attempt.shown(&progress, both(&self.to.cancel, bring, read)).await?;
            if begun.elapsed() < SHORT_PASS {
                break;
            }
            let churn = save.churn().await.map_err(|e| unfit(attempt, &e))?;
            if churn.bytes <= REST_BYTES && churn.entries <= REST_ENTRIES {
                break;
            }
            if pass == LIVE_PASSES_MAX {
                attempt.note(format!(
                    "The container writes faster than its files can be brought into the registry: {} MB were left after {pass} passes.",
                    churn.bytes >> 20
                ));
            }
        }
        Ok(())
    }

    /// Reads the rest of a container that stands still: when this returns, it may run again.
    pub(super) async fn rest(&mut self, attempt: &mut Attempt) -> Result<(), Unfit> {
        let progress = bytes(&self.to.progress);
        let save = self.save.as_mut().ok_or_else(over)?;
        let read = attempt.shown(progress, save.frozen_pass()).await;
        let report = read.map_err(|e| unfit(attempt, &e))?;
        if report.secrets_kept > 0 {
            attempt.note("A file that looks like a secret was changed in the last moment: its old content is still in a lower layer of the image. Save once more to be rid of it.");
        }
        Ok(())
    }

    /// Sends what was set aside and puts the manifest, by its digest.
    pub(super) async fn finish(&mut self, attempt: &mut Attempt) -> Result<Digest, Unfit> {
        attempt.step(Step::Upload).await?;
        self.base.brought(attempt, self.container, &self.ready.facts, &self.to).await?;
        let save = self.save.take().ok_or_else(over)?;
        let finished = attempt.shown(bytes(&self.to.progress), save.finish()).await;
        let saved = finished.map_err(|e| unfit(attempt, &e))?;
        said::count(&attempt.parts.metrics, &saved);
        said::say(attempt, &saved);
        attempt.node.rates.note(SnapshotWay::Direct, saved.report.read_bytes, self.begun.elapsed());

        attempt.step(Step::Finish).await?;
        let docker_id = &self.ready.facts.id;
        let digest = attempt.until_stopped(Box::pin(self.put(attempt, &saved))).await?;
        accept(attempt, docker_id, &self.to.repo, &digest, &saved.index).await;
        attempt.checkpoint.manifest = Some(digest.clone());
        attempt.save().await?;
        Ok(digest)
    }

    async fn put(&self, attempt: &Attempt, saved: &SavedLayers) -> Result<Digest, Halt> {
        let brought = self.base.brought(attempt, self.container, &self.ready.facts, &self.to).await?;
        let rules = ScrubRules {
            secrets: self.container.launch.env.values().cloned().map(SecretString::from).collect(),
            comment: Some(format!("job {}", attempt.job.id)),
            ..ScrubRules::default()
        };
        let provenance = Provenance {
            created: Timestamp::now().to_string(),
            base: brought.note.clone(),
            container: Some(self.container.id.to_string()),
            job: Some(attempt.job.id.to_string()),
        };
        let image = save::assemble(&Parts {
            base: &self.base.image.config,
            base_layers: &brought.layers,
            layers: &saved.layers,
            rules: &rules,
            provenance: &provenance,
        });
        let image = image.map_err(|e| halt(attempt, &e))?;
        match save::assemble::put(&self.to, &image).await {
            Err(error) => {
                if matches!(error, SaveError::Registry(RegistryError::BlobsUnknown { .. })) {
                    // A layer is not there after all: the next attempt believes nothing and reads everything.
                    forget(attempt, &self.ready.facts.id).await;
                }
                Err(halt(attempt, &error))
            }
            Ok(digest) => Ok(digest),
        }
    }
}

/// Remembers what the image holds, now that its manifest is in the registry.
pub(crate) async fn accept(
    attempt: &Attempt,
    docker_id: &str,
    repo: &str,
    digest: &Digest,
    index: &Arc<Index>,
) {
    let indexes = attempt.node.indexes.clone();
    let (id, repo, digest, index) =
        (docker_id.to_owned(), repo.to_owned(), digest.clone(), Arc::clone(index));
    let written = tokio::task::spawn_blocking(move || indexes.accept(&id, &repo, &digest, &index)).await;
    if let Ok(Err(error)) = written {
        tracing::warn!(job.id = %attempt.job.id, %error, "what the image holds could not be written down: the next save reads everything");
    }
}

async fn forget(attempt: &Attempt, docker_id: &str) {
    let (indexes, id) = (attempt.node.indexes.clone(), docker_id.to_owned());
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || indexes.forget(&id)).await {
        tracing::warn!(job.id = %attempt.job.id, %error, "an index could not be removed");
    }
}

/// How far the layers are, before compression.
fn bytes(progress: &Progress) -> impl Fn() -> (u64, u64) + use<> {
    let progress = progress.clone();
    move || (progress.read_bytes(), progress.planned_bytes())
}

/// What an error of the save means for the attempt.
fn halt(attempt: &Attempt, error: &SaveError) -> Halt {
    match attempt.stop.check() {
        Err(stopped) => stopped,
        Ok(()) => error.failure().into(),
    }
}

/// The same, where the layer itself may be the reason.
fn unfit(attempt: &Attempt, error: &SaveError) -> Unfit {
    error.unsuitable().map_or_else(|| Unfit::Halt(halt(attempt, error)), Unfit::Layer)
}

fn over() -> Failure {
    Failure::transient(FailureClass::Internal, "a save that goes on after its end")
}

/// Runs both to their ends, side by side. When one fails the other is cancelled, and ends with nothing left over.
async fn both(
    cancel: &CancellationToken,
    mut one: impl Future<Output = Result<(), Unfit>> + Send + Unpin,
    mut two: impl Future<Output = Result<(), Unfit>> + Send + Unpin,
) -> Result<(), Unfit> {
    tokio::select! {
        done = &mut one => match done {
            Ok(()) => two.await,
            Err(error) => {
                cancel.cancel();
                let _cancelled = two.await;
                Err(error)
            }
        },
        done = &mut two => match done {
            Ok(()) => one.await,
            Err(error) => {
                cancel.cancel();
                let _cancelled = one.await;
                Err(error)
            }
        },
    }
}
