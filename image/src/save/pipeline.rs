//! One layer on its way up: tar bytes → diffID → blocks, compressed by all cores → the blob's digest → one streamed
//! upload. Nothing is kept on the node's disk, and memory has a bound that all layers of a save share.
//!
//! ```text
//! produce() ─ Blocks ─┬─ compress ─┬─ seal ─ Feed ─ PATCH
//!             sha256  ├─ compress ─┤ sha256   └ the last few MiB, to go on after a cut
//!                     └─ …        ─┘
//! ```
//!
//! After a cut the upload goes on at the registry's offset. docker-registry 2.8 drops an upload whose line is cut:
//! then the layer is made again from its beginning, and only this one.

mod blocks;
mod feed;
mod pool;
mod progress;
mod send;

pub use pool::{Pool, PoolSettings};
pub use progress::Progress;

use super::error::SaveError;
use crate::client::Registry;
use crate::error::RegistryError;
use crate::layer::index::LayerBlob;
use crate::upload::Upload;
use blocks::{Blocks, seal};
use feed::Feed;
use mothball_domain::image::Digest;
use progress::Count;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How often a layer is made again after its upload was lost.
const REDOS_MAX: u32 = 3;
/// Longest wait for a request that was told to end.
const END_LIMIT: Duration = Duration::from_secs(3);
/// Compressed blocks that wait for the line.
const PACKED_MAX: usize = 4;

/// Where layers go, and what they share on the way.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The registry.
    pub registry: Registry,
    /// The repository in it.
    pub repo: String,
    /// Threads and memory.
    pub pool: Arc<Pool>,
    /// What is counted.
    pub progress: Progress,
    /// Ends everything at once.
    pub cancel: CancellationToken,
}

/// Uploads one layer, whose tar `produce` writes; it is called again from the beginning when the registry has lost the
/// upload. Returns the blob and what `produce` returned the last time. Idempotent: a blob that is there is not made
/// twice. When it fails or is cancelled, the upload is taken out of the registry; a future that is dropped
/// instead leaves one behind, which registries remove in time.
pub async fn upload_layer<R: Send + 'static>(
    to: &Upstream,
    produce: impl Fn(&mut dyn Write) -> io::Result<R> + Send + Sync + 'static,
) -> Result<(LayerBlob, R), SaveError> {
    let produce = Arc::new(produce);
    let mut redos = 0;
    loop {
        let again = produce.clone();
        match upload_once(to, move |tar| again(tar)).await {
            Err(error) if error.may_be_redone() && redos < REDOS_MAX => {
                redos += 1;
                tracing::info!(repo = %to.repo, %error, redos, "a layer is uploaded again from its beginning");
            }
            done => return done,
        }
    }
}

/// Uploads one layer whose tar can be written only once.
pub(crate) async fn upload_once<R: Send + 'static>(
    to: &Upstream,
    produce: impl FnOnce(&mut dyn Write) -> io::Result<R> + Send + 'static,
) -> Result<(LayerBlob, R), SaveError> {
    let _turn = tokio::select! {
        // Cancelled before it began is never begun.
        biased;
        () = to.cancel.cancelled() => return Err(SaveError::Cancelled),
        turn = to.pool.turn() => turn,
    };
    let mut stages = Stages::start(to, produce);
    let mut upload = None;
    let feed = stages.feed.clone();
    let done = {
        let mut carried = std::pin::pin!(stages.carry(to, &mut upload));
        tokio::select! {
            done = &mut carried => done,
            () = to.cancel.cancelled() => {
                feed.close();
                let ended = tokio::time::timeout(END_LIMIT, carried).await;
                // What fails now fails because of it.
                ended.ok().and_then(Result::ok).ok_or(SaveError::Cancelled)
            }
        }
    };
    if done.is_err() {
        stages.end().await;
        if let Some(upload) = upload {
            send::give_up(&to.registry, upload).await;
        }
    }
    done
}

/// One try of one layer.
struct Stages<R> {
    feed: Feed,
    count: Arc<Count>,
    tar: Option<JoinHandle<io::Result<(R, Digest, u64)>>>,
    blob: Option<JoinHandle<io::Result<Digest>>>,
    /// Also when this is dropped in the middle: the threads must not wait for ever.
    stop: DropGuard,
}

impl<R: Send + 'static> Stages<R> {
    fn start(to: &Upstream, produce: impl FnOnce(&mut dyn Write) -> io::Result<R> + Send + 'static) -> Self {
        let stop = to.cancel.child_token();
        let count = to.progress.count();
        let (slots, ordered) = mpsc::channel(to.pool.quota());
        let (packed, ready) = mpsc::channel(PACKED_MAX);
        let feed = Feed::new(ready, count.clone());
        let mut blocks = Blocks::new(to.pool.clone(), slots, stop.clone(), count.clone());
        let tar = spawn_blocking(move || {
            let result = produce(&mut blocks)?;
            let (diff_id, raw_bytes) = blocks.end()?;
            Ok((result, diff_id, raw_bytes))
        });
        let blob = spawn_blocking(move || seal(ordered, &packed));
        Self { feed, count, tar: Some(tar), blob: Some(blob), stop: stop.drop_guard() }
    }

    /// Brings the layer into the registry; `upload` holds what was begun there and not ended.
    async fn carry(
        &mut self,
        to: &Upstream,
        upload: &mut Option<Upload>,
    ) -> Result<(LayerBlob, R), SaveError> {
        let mut made = None;
        if self.feed.is_small().await {
            let (blob, result) = self.made(to).await?;
            if to.registry.blob_size(&to.repo, &blob.digest).await? == Some(blob.size) {
                self.count.keep();
                return Ok((blob, result));
            }
            made = Some((blob, result));
        }
        let line = upload.insert(to.registry.start_upload(&to.repo).await?);
        send::send(&to.registry, line, &self.feed).await?;
        if to.cancel.is_cancelled() {
            return Err(SaveError::Cancelled);
        }
        let (blob, result) = match made {
            Some(made) => made,
            None => self.made(to).await?,
        };
        if line.offset() != blob.size {
            let detail = format!("it holds {} of {} bytes", line.offset(), blob.size);
            return Err(RegistryError::UploadLost { what: format!("upload {}", blob.digest), detail }.into());
        }
        to.registry.finish(line.clone(), &blob.digest).await?;
        *upload = None;
        self.count.keep();
        Ok((blob, result))
    }

    /// What was made, once the tar was written and all of its blocks were taken.
    async fn made(&mut self, to: &Upstream) -> Result<(LayerBlob, R), SaveError> {
        let (tar, digest) = (joined(&mut self.tar).await, joined(&mut self.blob).await);
        // A tar that could not be written is named first, unless that was because its blocks were no longer taken.
        let digest = match (&tar, digest) {
            (Err(error), Err(_)) if error.kind() != io::ErrorKind::BrokenPipe => None,
            (_, digest) => Some(digest.map_err(|e| SaveError::io("compress a layer", e))?),
        };
        let (result, diff_id, raw_bytes) = tar.map_err(|e| SaveError::io("read the container's files", e))?;
        let digest = digest.ok_or_else(|| SaveError::Defect("a layer without a digest".to_owned()))?;
        let media_type = to.pool.settings().codec.media_type().to_owned();
        Ok((LayerBlob { digest, size: self.feed.taken(), diff_id, raw_bytes, media_type }, result))
    }

    /// Ends the threads of a layer that is given up.
    async fn end(mut self) {
        self.feed.close();
        drop(self.stop);
        if self.tar.is_some() {
            drop(joined(&mut self.tar).await);
        }
        if self.blob.is_some() {
            drop(joined(&mut self.blob).await);
        }
    }
}

async fn joined<T>(task: &mut Option<JoinHandle<io::Result<T>>>) -> io::Result<T> {
    let Some(running) = task else { return Err(io::Error::other("a thread of the save was asked twice")) };
    let result = running.await;
    *task = None;
    result.unwrap_or_else(|e| Err(io::Error::other(format!("a thread of the save ended: {e}"))))
}
