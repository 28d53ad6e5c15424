//! SHA-256, which everything that goes to a registry goes through twice: as the layer's bytes and as the blob's.

use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::Limit;

const BYTES: usize = 512 << 20;
const BLOCK: usize = 1 << 20;

/// On one processor, and on all of them at once.
pub(super) fn limits() -> Vec<Limit> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let together = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..all {
            scope.spawn(hash);
        }
    });
    let together = rate(all * BYTES, together);
    let alone = Instant::now();
    hash();
    vec![
        Limit::new("SHA-256, one processor", rate(BYTES, alone), "MB"),
        Limit::new(format!("SHA-256, {all} processors"), together, "MB"),
    ]
}

fn hash() {
    let (block, mut hash) = (vec![7u8; BLOCK], Sha256::new());
    for _ in 0..BYTES / BLOCK {
        hash.update(&block);
    }
    std::hint::black_box(hash.finalize());
}

/// In MB a second since then.
pub(super) fn rate(bytes: usize, since: Instant) -> f64 {
    bytes as f64 / 1e6 / since.elapsed().as_secs_f64()
}
