//! The codec of the direct engine, on what it meets: the files of W1, in blocks of the engine's size.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, anyhow};

use super::{Limit, What, files, processors, rate};

/// The engine's block.
const BLOCK: usize = 1 << 20;
const BYTES_MAX: usize = 400_000_000;

/// Packing on one processor and on all of them, and unpacking on one.
pub(super) fn limits(tree: &Path) -> Result<Vec<Limit>> {
    let bytes = files::content(tree, BYTES_MAX)?;
    let blocks: Vec<&[u8]> = bytes.chunks(BLOCK).collect();
    let mut limits = Vec::new();
    for at_once in [1, processors()] {
        let begun = Instant::now();
        let results = std::thread::scope(|scope| {
            let share = blocks.len().div_ceil(at_once);
            let threads: Vec<_> = blocks.chunks(share).map(|share| scope.spawn(|| pack(share))).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        for result in results {
            result.map_err(|_| anyhow!("a thread that packed panicked"))??;
        }
        limits.push(Limit::new(What::Pack, at_once, rate(bytes.len(), begun)));
    }
    let packed = pack(&blocks)?;
    let mut room = vec![0; BLOCK];
    let begun = Instant::now();
    for block in &packed {
        isal::decompress_into(block, &mut room, isal::Codec::Gzip).map_err(|e| anyhow!("igzip: {e}"))?;
    }
    limits.push(Limit::new(What::Unpack, 1, rate(bytes.len(), begun)));
    Ok(limits)
}

fn pack(blocks: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
    let mut room = vec![0; 2 * BLOCK];
    let one = |block: &&[u8]| {
        let level = isal::CompressionLevel::One;
        let length = isal::compress_into(block, &mut room, level, isal::Codec::Gzip);
        let length = length.map_err(|e| anyhow!("igzip: {e}"))?;
        Ok(room[..length].to_vec())
    };
    blocks.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_can_be_unpacked() {
        let block = vec![3; BLOCK];
        let packed = pack(&[&block]).unwrap();
        let mut room = vec![0; BLOCK];
        let length = isal::decompress_into(&packed[0], &mut room, isal::Codec::Gzip).unwrap();
        assert!(length == BLOCK && room == block);
    }
}
