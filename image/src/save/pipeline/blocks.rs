//! The two ends of a layer's blocks: tar bytes are cut into blocks and hashed (the diffID), compressed blocks
//! are put in order and hashed (the blob's digest).

use super::pool::{Packed, Pool, Raw, Slot};
use super::progress::Count;
use crate::save::codec::BLOCK_BYTES;
use mothball_domain::image::Digest;
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Takes a layer's tar. Lives on a thread that may wait.
pub(super) struct Blocks {
    pool: Arc<Pool>,
    slots: Sender<Slot>,
    stop: CancellationToken,
    runtime: Handle,
    leaves: Arc<Semaphore>,
    block: Option<Raw>,
    hash: Sha256,
    raw_bytes: u64,
    count: Arc<Count>,
}

impl Blocks {
    /// Must be called within a runtime.
    pub(super) fn new(
        pool: Arc<Pool>,
        slots: Sender<Slot>,
        stop: CancellationToken,
        count: Arc<Count>,
    ) -> Self {
        let (runtime, leaves) = (Handle::current(), Arc::new(Semaphore::new(pool.quota())));
        Self { pool, slots, stop, runtime, leaves, block: None, hash: Sha256::new(), raw_bytes: 0, count }
    }

    /// Sends the last block; returns the tar's digest and length.
    pub(super) fn end(mut self) -> io::Result<(Digest, u64)> {
        if self.raw_bytes == 0 {
            // Nothing, compressed, is still a stream.
            self.open_block()?;
        }
        self.pass_on()?;
        Ok((Digest::from_sha256(self.hash.finalize().into()), self.raw_bytes))
    }

    fn open_block(&mut self) -> io::Result<&mut Raw> {
        let block = match self.block.take() {
            Some(block) => block,
            None => Raw { leave: self.leave()?, bytes: self.pool.block() },
        };
        Ok(self.block.insert(block))
    }

    /// Waits until a block more may be held.
    fn leave(&self) -> io::Result<OwnedSemaphorePermit> {
        let leaves = self.leaves.clone();
        if let Ok(leave) = leaves.clone().try_acquire_owned() {
            return Ok(leave);
        }
        self.runtime.block_on(async {
            tokio::select! {
                leave = leaves.acquire_owned() => leave.map_err(|_: AcquireError| given_up()),
                () = self.stop.cancelled() => Err(given_up()),
            }
        })
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let Some(raw) = self.block.take() else { return Ok(()) };
        self.hash.update(&raw.bytes);
        self.raw_bytes += raw.bytes.len() as u64;
        self.count.read(raw.bytes.len() as u64);
        let slot = self.pool.pack(raw)?;
        self.slots.blocking_send(slot).map_err(|_| given_up())
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let raw = self.open_block()?;
        let taken = bytes.len().min(BLOCK_BYTES - raw.bytes.len());
        raw.bytes.extend_from_slice(&bytes[..taken]);
        if raw.bytes.len() == BLOCK_BYTES {
            self.pass_on()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts compressed blocks in order and hashes them. Lives on a thread that may wait; ends when the tar ends or
/// when nobody takes its blocks any more.
pub(super) fn seal(mut slots: Receiver<Slot>, packed: &Sender<Packed>) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    while let Some(slot) = slots.blocking_recv() {
        let block = slot.blocking_recv().map_err(|_| io::Error::other("a compressing thread died"))??;
        hash.update(&block.bytes);
        packed.blocking_send(block).map_err(|_| given_up())?;
    }
    Ok(Digest::from_sha256(hash.finalize().into()))
}

fn given_up() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the layer was given up")
}
