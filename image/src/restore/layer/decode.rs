//! A layer's blob, decompressed.

use super::blocks::{BLOCK_BYTES, BlocksOut, Pieces};
use crate::restore::error::RestoreError;
use crate::restore::limits::Limits;
use mothball_domain::image::Digest;
use std::io::{self, BufRead as _, Read};

/// What a gzip member and a zstd frame begin with.
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Largest window that a zstd frame may ask for, as a power of two: 8 MiB, what its levels up to 19 use. The specification
/// lets a decoder refuse more.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Decompresses a blob into blocks; false when a stage behind has hung up. How the blob is compressed shows in its first
/// bytes, as Docker finds out too.
pub(super) fn decode(
    mut blob: Pieces,
    digest: &Digest,
    limits: &Limits,
    out: &BlocksOut,
) -> Result<bool, RestoreError> {
    let broken = |error: io::Error| RestoreError::Layer {
        digest: digest.clone(),
        detail: format!("it cannot be decompressed: {error}"),
    };
    // The first piece may be shorter than any mark; a layer that is so short is no layer.
    let first = blob.fill_buf().map_err(broken)?;
    let mut decoder: Box<dyn Read> = if first.starts_with(GZIP) {
        // In a box before it reads: the decoder points into itself from then on.
        Box::new(isal::read::GzipDecoder::new(blob))
    } else if first.starts_with(ZSTD) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(blob).map_err(broken)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
        Box::new(decoder)
    } else {
        Box::new(blob)
    };
    loop {
        let mut block = out.buffer();
        let filled = fill(&mut decoder, &mut block).map_err(broken)?;
        if filled == 0 {
            return Ok(true);
        }
        block.truncate(filled);
        limits.bytes(filled as u64)?;
        if !out.send(block) {
            return Ok(false);
        }
        if filled < BLOCK_BYTES {
            return Ok(true);
        }
    }
}

/// Fills a block as far as the stream goes.
fn fill(decoder: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match decoder.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
