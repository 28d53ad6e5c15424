//! What this machine can do at best, measured in the same run: what a save or a launch cannot be faster than.

mod codec;
mod files;
mod hashing;
mod ingest;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::rig::Rig;

/// What can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// SHA-256.
    Hash,
    /// The codec of the direct engine, packing W1's files.
    Pack,
    /// The same, unpacking them.
    Unpack,
    /// Looking at the entries of W1's tree.
    Walk,
    /// Reading W1's files from the page cache.
    Read,
    /// Writing W1's tree into a new directory.
    Write,
    /// The registry taking a blob.
    Ingest,
}

/// One limit.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Limit {
    /// What is limited.
    pub(crate) what: What,
    /// By how many threads, or streams, at once.
    pub(crate) at_once: usize,
    /// How much of it in a second: MB, or entries.
    pub(crate) per_second: f64,
}

impl Limit {
    fn new(what: What, at_once: usize, per_second: f64) -> Self {
        Self { what, at_once, per_second }
    }

    /// A name for people.
    pub(crate) fn name(self) -> String {
        let what = match self.what {
            What::Hash => "SHA-256",
            What::Pack => "gzip by igzip level 1, W1's files",
            What::Unpack => "gunzip by igzip, W1's files",
            What::Walk => "walking W1's tree, in the cache",
            What::Read => "reading W1's files, in the cache",
            What::Write => "writing W1's tree (cp --archive)",
            What::Ingest => "the registry taking blobs",
        };
        format!("{what}, {} at once", self.at_once)
    }

    /// The figure for people.
    pub(crate) fn shown(self) -> String {
        let unit = if self.what == What::Walk { "entries" } else { "MB" };
        format!("{:.0} {unit}/s", self.per_second)
    }
}

/// Measures them all; `tree` is W1's.
pub(crate) async fn measure(tree: &Path, rig: &Rig) -> Result<Vec<Limit>> {
    let (tree, target) = (tree.to_owned(), rig.dockerd().directory().join("written"));
    let alone = tokio::task::spawn_blocking(move || -> Result<Vec<Limit>> {
        let mut limits = hashing::limits();
        limits.extend(files::limits(&tree, &target)?);
        limits.extend(codec::limits(&tree)?);
        Ok(limits)
    });
    let mut limits = alone.await??;
    limits.extend(ingest::limits(&rig.docker_registry).await?);
    Ok(limits)
}

/// Threads for a limit of the whole machine: one for each processor.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// In MB a second since then.
fn rate(bytes: usize, since: Instant) -> f64 {
    bytes as f64 / 1e6 / since.elapsed().as_secs_f64()
}
