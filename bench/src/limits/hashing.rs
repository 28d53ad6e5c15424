//! SHA-256, which everything that goes to a registry goes through twice: as the layer's bytes and as the blob's.

use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::{Limit, What, processors, rate};

const BYTES: usize = 512 << 20;
const BLOCK: usize = 1 << 20;

/// On one processor, and on all of them at once.
pub(super) fn limits() -> Vec<Limit> {
    let measure = |at_once: usize| {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(hash);
            }
        });
        Limit::new(What::Hash, at_once, rate(at_once * BYTES, begun))
    };
    [1, processors()].map(measure).to_vec()
}

fn hash() {
    let (block, mut hash) = (vec![7u8; BLOCK], Sha256::new());
    for _ in 0..BYTES / BLOCK {
        hash.update(&block);
    }
    std::hint::black_box(hash.finalize());
}
