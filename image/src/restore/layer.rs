//! One layer from the registry to its directory: fetched and hashed, decompressed, hashed again, unpacked, all at once.
//!
//! Four stages, each on a thread of its own, with a few buffers between them:
//! the blob comes in and is hashed ([`crate::BlobReader`]); it is decompressed; its tar is hashed; its tar is unpacked. A
//! stage that fails hangs up, and the others end with it. Nothing is believed before both digests are right; until then it
//! lies in the layer's own staging directory.

mod blocks;
mod decode;

use super::error::RestoreError;
use super::limits::Limits;
use super::plan::OwnLayer;
use super::progress::RestoreProgress;
use super::staging::Staging;
use super::unpack::{Unpacked, unpack};
use crate::client::Registry;
use crate::error::RegistryError;
use blocks::{Blocks, Pieces};
use bytes::Bytes;
use mothball_domain::image::Digest;
use sha2::{Digest as _, Sha256};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Pieces of a blob between the network and the decompressor; hyper makes none larger than some 400 KB.
const PIECES_WAITING: usize = 8;

/// What all layers of one restore share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) registry: Registry,
    pub(super) repo: String,
    pub(super) limits: Limits,
    pub(super) progress: Arc<RestoreProgress>,
    pub(super) stop: CancellationToken,
    pub(super) staging: Staging,
}

/// A layer in its directory.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) directory: Arc<OwnedFd>,
    pub(super) unpacked: Unpacked,
    /// Bytes of the tar.
    pub(super) tar_bytes: u64,
    /// How long its stages were at work, waiting for each other not counted where it can be told.
    pub(super) times: StageTimes,
}

/// How long the stages of one layer took, waits for their neighbours included.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StageTimes {
    pub(super) decompress: Duration,
    pub(super) hash: Duration,
    pub(super) unpack: Duration,
}

/// Brings a layer into its directory; both its digests are right then.
pub(super) async fn bring(
    shared: Arc<Shared>,
    number: usize,
    layer: OwnLayer,
) -> Result<Ready, RestoreError> {
    let (pieces, waiting) = mpsc::channel(PIECES_WAITING);
    let stages = {
        let (shared, layer) = (Arc::clone(&shared), layer.clone());
        // On its own until it ends, also where this future is dropped: `shared` keeps the staging directory until then.
        tokio::task::spawn_blocking(move || stages(&shared, number, &layer, waiting))
    };
    let fetched = tokio::select! {
        biased;
        () = shared.stop.cancelled() => Err(RestoreError::Cancelled),
        fetched = fetch(&shared, &layer, pieces) => fetched,
    };
    let done = stages.await.map_err(|error| RestoreError::Broken(error.to_string()))?;
    // What the stages say of bytes that were not the layer's counts for nothing.
    match (fetched, done) {
        (Ok(true), done) => done,
        (Err(error), _) | (Ok(false), Err(error)) => Err(error),
        (Ok(false), Ok(_)) => Err(RestoreError::Broken("a layer was left half read".to_owned())),
    }
}

/// Reads the blob to its end; false when the stages hung up before.
async fn fetch(shared: &Shared, layer: &OwnLayer, pieces: mpsc::Sender<Bytes>) -> Result<bool, RestoreError> {
    let (digest, size) = (&layer.blob.digest, layer.blob.size);
    let wrong = |detail: String| RegistryError::Protocol {
        what: format!("read blob {}@{digest}", shared.repo),
        detail,
    };
    let mut reader = shared.registry.get_blob(&shared.repo, digest).await?;
    let mut read = 0;
    while let Some(piece) = reader.next().await? {
        read += piece.len() as u64;
        if read > size {
            return Err(wrong(format!("it is longer than the {size} bytes of its manifest")).into());
        }
        shared.progress.add(piece.len() as u64);
        if pieces.send(piece).await.is_err() {
            return Ok(false);
        }
    }
    if read < size {
        return Err(wrong(format!("it has {read} bytes, {size} in its manifest")).into());
    }
    Ok(true)
}

/// Runs the stages behind the network to their ends.
fn stages(
    shared: &Shared,
    number: usize,
    layer: &OwnLayer,
    waiting: mpsc::Receiver<Bytes>,
) -> Result<Ready, RestoreError> {
    let directory = shared.staging.layer(number)?;
    let digest = &layer.blob.digest;
    let (to_hash, to_unpack, out) = blocks::channels();
    let (decoded, hashed, unpacked) = std::thread::scope(|scope| {
        let hash = scope.spawn(|| timed(|| hash(to_hash)));
        let root = Arc::clone(&directory);
        let unpack = scope.spawn(move || timed(|| unpack(to_unpack, root, digest, &shared.limits)));
        let blob = Pieces::new(waiting, shared.stop.clone());
        let decoded = timed(|| decode::decode(blob, digest, &shared.limits, &out));
        // The stages behind end when this is gone.
        drop(out);
        (decoded, hash.join(), unpack.join())
    });
    let panicked = || RestoreError::Broken("a thread panicked".to_owned());
    let (hashed, unpacked) = (hashed.map_err(|_| panicked())?, unpacked.map_err(|_| panicked())?);
    if shared.stop.is_cancelled() {
        return Err(RestoreError::Cancelled);
    }
    // The first stage that failed is the cause of what the later ones say. A decompressor that was hung up on says nothing.
    let times = StageTimes { decompress: decoded.1, hash: hashed.1, unpack: unpacked.1 };
    let whole = decoded.0?;
    let unpacked = unpacked.0?;
    let (diff_id, tar_bytes) = hashed.0;
    if !whole || diff_id != layer.diff_id {
        return Err(RestoreError::Layer {
            digest: digest.clone(),
            detail: format!("its tar hashes to {diff_id}, not to {}", layer.diff_id),
        });
    }
    Ok(Ready { directory, unpacked, tar_bytes, times })
}

fn hash(blocks: Blocks) -> (Digest, u64) {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    for block in blocks {
        hash.update(block.as_slice());
        bytes += block.len() as u64;
    }
    (Digest::from_sha256(hash.finalize().into()), bytes)
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}
