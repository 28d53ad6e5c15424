//! A saved image brought into a container that was created from its base, without `docker pull`.
//!
//! ```text
//! registry -> [blob, hash] -> decompress -> [diffID, hash]      for several layers at once, each into a
//!                                        -> unpack              directory of its own ("staging")
//! staging/0, 1, 2 ... -> merge, oldest first, by renames -> prune the marks that mean nothing above the base -> upper
//! ```
//!
//! Every layer waits in its own directory until both its digests are right; only a tree that is whole is moved into
//! the upper directory, so a failure leaves nothing there. Merging by renames costs about a hundredth of writing the files,
//! needs no second look at the layers and keeps no list of them in memory; unpacking newest first into the upper
//! directory itself would save these renames, but would have the layers wait for each other, and unproven bytes lie in a
//! container.
//!
//! | room | what is in it |
//! |---|---|
//! | [`plan`] | whether an image may be restored on a base |
//! | `layer` | one layer from the registry to its directory |
//! | `unpack`, `dirs`, `place` | entries written, never outside of the directory |
//! | `merge`, `base` | layers laid over each other, and over the base |
//! | `index` | which entry came from which layer, for the next save |
//! | `staging` | what is cleaned up whatever happens |
//! | `limits`, [`RestoreProgress`], [`RestoreError`] | bounds, how far it is, what can go wrong |

mod base;
mod dirs;
mod error;
mod index;
mod layer;
mod limits;
mod merge;
mod place;
pub mod plan;
mod progress;
mod staging;
mod unpack;

pub use error::RestoreError;
pub use plan::{OwnLayer, RestorePlan, plan};
pub use progress::RestoreProgress;

use crate::client::Registry;
use crate::layer::index::{Index, Mentions};
use base::Base;
use error::at;
use layer::{Ready, Shared};
use limits::Limits;
use staging::{Filling, Staging};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Where an image is restored to, and within which bounds.
#[derive(Debug, Clone)]
pub struct RestoreSettings {
    /// The UpperDir of a container that was created and never started. Its own inode stays. What Docker has made in it
    /// (a working directory, mount points) counts as the oldest layer.
    pub upper: PathBuf,
    /// The LowerDirs of that container, topmost first.
    pub lower: Vec<PathBuf>,
    /// A directory on the same file system that does not exist, or is left over from a restore that was killed: it is
    /// made, and gone at the end. Beside the upper directory, it goes when Docker removes the container.
    pub staging: PathBuf,
    /// Most layers unpacked at once: each takes up to 8 MB of memory and keeps about one core busy.
    pub parallel: usize,
    /// Most entries that all layers together may have.
    pub entries_max: u64,
    /// Most bytes that all layers' tars together may have: what the disk can take.
    pub bytes_max: u64,
}

impl RestoreSettings {
    /// Settings with the usual bounds: staging beside the upper directory, a layer for each core and one that waits for the
    /// network, ten million entries.
    pub fn new(upper: PathBuf, lower: Vec<PathBuf>, bytes_max: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let staging = upper.with_file_name("mothball-restore");
        Self { upper, lower, staging, parallel: (cores + 1).min(8), entries_max: 10_000_000, bytes_max }
    }
}

/// Longest tick of the clock that file systems stamp with, twice.
const TICKS: Duration = Duration::from_millis(25);

/// A restored image.
#[derive(Debug)]
pub struct Restored {
    /// What the next save begins with: it sends only what changes from here on.
    pub index: Index,
    /// What was done.
    pub report: RestoreReport,
}

/// What a restore did.
#[derive(Debug, Clone, Default)]
pub struct RestoreReport {
    /// Entries of all layers.
    pub entries: u64,
    /// Bytes of their files.
    pub file_bytes: u64,
    /// Bytes of their tars.
    pub tar_bytes: u64,
    /// Bytes that came from the registry.
    pub blob_bytes: u64,
    /// Extended attributes that the node's file system does not take.
    pub attributes_skipped: u64,
    /// From the first request until the last layer was unpacked and proven.
    pub fetched_in: Duration,
    /// From then until the upper directory was full.
    pub merged_in: Duration,
    /// How long the look at it took that the next save begins with.
    pub indexed_in: Duration,
    /// How long the decompressors, the hashes and the unpackers of all layers were at work or waiting, added up.
    pub stages: [Duration; 3],
}

/// Fills the upper directory with the layers of `plan`. Dropping the future is a cancel too: whatever ends it, the staging
/// directory goes, and unless the result is `Ok` the upper directory is emptied, as soon as the threads that are at work
/// have noticed.
pub async fn restore(
    registry: &Registry,
    repo: &str,
    plan: &RestorePlan,
    settings: &RestoreSettings,
    progress: Arc<RestoreProgress>,
    cancel: &CancellationToken,
) -> Result<Restored, RestoreError> {
    let stop = cancel.child_token();
    let _stops_when_dropped = stop.clone().drop_guard();
    progress.begin(plan.bytes());
    let start = Instant::now();
    let staging = settings.staging.clone();
    let staging = blocking(move || Staging::make(&staging)).await?;
    let shared = Arc::new(Shared {
        registry: registry.clone(),
        repo: repo.to_owned(),
        limits: Limits::new(settings.entries_max, settings.bytes_max, &plan.volumes),
        progress,
        stop,
        staging,
    });
    let layers = fetch_all(&shared, plan, settings.parallel).await;
    let filled = match layers {
        Ok(layers) => {
            let (shared, settings) = (Arc::clone(&shared), settings.clone());
            let fetched_in = start.elapsed();
            blocking(move || fill(&shared, layers, &settings, fetched_in)).await
        }
        Err(error) => Err(error),
    };
    // The last one that holds it, off the runtime's own threads: it removes the staging directory.
    blocking(move || {
        drop(shared);
        Ok(())
    })
    .await?;
    let Filled { filling, report, said } = filled?;
    // What was stamped in the tick of a look at it may change again without a trace: the index would have to doubt it.
    tokio::time::sleep(TICKS).await;
    let start = Instant::now();
    let (upper, plan) = (settings.upper.clone(), plan.clone());
    let blob_bytes = plan.bytes();
    // The guard goes along: dropped while this runs, the future leaves an upper directory that is emptied after it.
    let (filling, index) = blocking(move || Ok((filling, index::index(&upper, &plan, said)?))).await?;
    filling.keep();
    let report = RestoreReport { blob_bytes, indexed_in: start.elapsed(), ..report };
    Ok(Restored { index, report })
}

/// Brings all layers into their directories; the first that fails stops the others, and all have ended afterwards.
async fn fetch_all(
    shared: &Arc<Shared>,
    plan: &RestorePlan,
    parallel: usize,
) -> Result<Vec<Ready>, RestoreError> {
    let permits = Arc::new(Semaphore::new(parallel.max(1)));
    let mut tasks = JoinSet::new();
    // The largest first: what is begun last should not take longest.
    let mut order: Vec<_> = plan.layers.iter().cloned().enumerate().collect();
    order.sort_by_key(|(_, layer)| std::cmp::Reverse(layer.blob.size));
    for (number, layer) in order {
        let (shared, permits) = (Arc::clone(shared), Arc::clone(&permits));
        tasks.spawn(async move {
            let permit = permits.acquire_owned().await;
            let brought = if shared.stop.is_cancelled() {
                Err(RestoreError::Cancelled)
            } else {
                layer::bring(shared, number, layer).await
            };
            drop(permit);
            (number, brought)
        });
    }
    let mut ready: Vec<Option<Ready>> = plan.layers.iter().map(|_| None).collect();
    let mut failed = None;
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((number, Ok(layer))) => ready[number] = Some(layer),
            Ok((_, Err(error))) => failed = stop_for(shared, failed, error),
            Err(error) => failed = stop_for(shared, failed, RestoreError::Broken(error.to_string())),
        }
    }
    match failed {
        Some(error) => Err(error),
        None => ready
            .into_iter()
            .collect::<Option<_>>()
            .ok_or_else(|| RestoreError::Broken("a layer is missing".to_owned())),
    }
}

/// Stops the other layers; the first error is the one to report.
fn stop_for(shared: &Shared, first: Option<RestoreError>, error: RestoreError) -> Option<RestoreError> {
    shared.stop.cancel();
    first.or(Some(error))
}

/// An upper directory that is full.
struct Filled {
    filling: Filling,
    report: RestoreReport,
    /// What each layer mentions, and the size of its tar.
    said: Vec<(Mentions, u64)>,
}

/// Merges the layers and moves the whole into the upper directory.
fn fill(
    shared: &Shared,
    layers: Vec<Ready>,
    settings: &RestoreSettings,
    fetched_in: Duration,
) -> Result<Filled, RestoreError> {
    let start = Instant::now();
    let mut report = RestoreReport { fetched_in, ..RestoreReport::default() };
    let (mut marks, mut root) = (false, false);
    let mut whole = None;
    let mut said = Vec::new();
    for Ready { directory, unpacked, tar_bytes, times } in layers {
        report.entries += unpacked.said.len() as u64;
        report.file_bytes += unpacked.bytes;
        report.tar_bytes += tar_bytes;
        report.attributes_skipped += unpacked.attributes_skipped;
        for (sum, time) in report.stages.iter_mut().zip([times.decompress, times.hash, times.unpack]) {
            *sum += time;
        }
        said.push((unpacked.said, tar_bytes));
        marks |= unpacked.marks;
        root |= unpacked.root;
        match &whole {
            None => whole = Some(directory),
            Some(older) => marks |= merge::merge(older, &directory, unpacked.root, &shared.stop)?,
        }
    }
    let upper = place::root(&settings.upper)
        .map_err(at(|| format!("open the upper directory {}", settings.upper.display())))?;
    let filling = Filling::of(upper);
    if let Some(whole) = whole {
        if marks {
            Base::open(&settings.lower)?.prune(&whole, &shared.stop)?;
        }
        merge::merge(filling.directory(), &whole, root, &shared.stop)?;
    }
    report.merged_in = start.elapsed();
    Ok(Filled { filling, report, said })
}

/// Runs what waits for the file system off the runtime's own threads, to its end.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RestoreError> + Send + 'static,
) -> Result<T, RestoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| RestoreError::Broken(error.to_string()))?
}
