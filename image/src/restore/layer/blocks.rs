//! What flows between the stages of a layer.

use bytes::{Buf as _, Bytes};
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Bytes of a decompressed block: it stays in a core's cache from one stage to the next.
pub(super) const BLOCK_BYTES: usize = 256 * 1024;
/// Blocks between the decompressor and each stage behind it.
const BLOCKS_WAITING: usize = 6;

/// A piece of a tar.
pub(super) type Block = Arc<Vec<u8>>;

/// The pieces of a blob, read as one stream by a thread that may wait.
#[derive(Debug)]
pub(super) struct Pieces {
    waiting: mpsc::Receiver<Bytes>,
    stop: CancellationToken,
    piece: Bytes,
}

impl Pieces {
    pub(super) fn new(waiting: mpsc::Receiver<Bytes>, stop: CancellationToken) -> Self {
        Self { waiting, stop, piece: Bytes::new() }
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() {
            if self.stop.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
            match self.waiting.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => break,
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, length: usize) {
        self.piece.advance(length);
    }
}

impl Read for Pieces {
    /// Fills the whole buffer unless the stream ends: decompressors take a short read for the beginning of the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let piece = self.fill_buf()?;
            if piece.is_empty() {
                break;
            }
            let length = piece.len().min(buffer.len() - filled);
            buffer[filled..filled + length].copy_from_slice(&piece[..length]);
            self.consume(length);
            filled += length;
        }
        Ok(filled)
    }
}

/// Blocks for one stage; ends when the decompressor ends.
#[derive(Debug)]
pub(super) struct Blocks {
    waiting: Receiver<Block>,
    used: SyncSender<Vec<u8>>,
    block: Block,
    at: usize,
}

impl Blocks {
    fn new(waiting: Receiver<Block>, used: SyncSender<Vec<u8>>) -> Self {
        Self { waiting, used, block: Block::default(), at: 0 }
    }
}

impl Iterator for Blocks {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        let next = self.waiting.recv().ok();
        let used = std::mem::replace(&mut self.block, next.clone().unwrap_or_default());
        give_back(&self.used, used);
        next
    }
}

impl BufRead for Blocks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.block.len() {
            self.at = 0;
            // At the end the empty block stays: a reader may ask again.
            self.next();
        }
        Ok(&self.block[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let length = piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&piece[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// Where the decompressor puts its blocks.
#[derive(Debug)]
pub(super) struct BlocksOut {
    to_hash: SyncSender<Block>,
    to_unpack: SyncSender<Block>,
    used: Receiver<Vec<u8>>,
}

impl BlocksOut {
    /// A buffer of [`BLOCK_BYTES`], its content of no meaning.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let mut buffer = self.used.try_recv().unwrap_or_default();
        buffer.resize(BLOCK_BYTES, 0);
        buffer
    }

    /// Hands a block to both stages; false when one of them has hung up.
    pub(super) fn send(&self, block: Vec<u8>) -> bool {
        let block = Block::new(block);
        self.to_unpack.send(Arc::clone(&block)).is_ok() && self.to_hash.send(block).is_ok()
    }
}

/// The channels from the decompressor to the hash and to the unpacker. Whichever of them has done with a block last gives
/// its buffer back.
pub(super) fn channels() -> (Blocks, Blocks, BlocksOut) {
    let (used_in, used) = sync_channel(2 * BLOCKS_WAITING);
    let (to_hash, hash) = sync_channel(BLOCKS_WAITING);
    let (to_unpack, unpack) = sync_channel(BLOCKS_WAITING);
    let blocks = |receiver| Blocks::new(receiver, used_in.clone());
    (blocks(hash), blocks(unpack), BlocksOut { to_hash, to_unpack, used })
}

fn give_back(used: &SyncSender<Vec<u8>>, block: Block) {
    if let Some(buffer) = Arc::into_inner(block)
        && !buffer.is_empty()
    {
        // One buffer too many is simply freed.
        let _full = used.try_send(buffer);
    }
}
