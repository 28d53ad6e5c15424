//! The thread that looks while something is measured: at the freezer every two milliseconds, at the disk every hundred.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::disk::{free, used};
use super::freezer::Freezer;
use super::signed;

const TICK: Duration = Duration::from_millis(2);
const TICKS_OF_DISK: u32 = 50;

/// What it saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How long the container stood still; none where none was looked at.
    pub(crate) frozen: Option<Duration>,
    /// The most that the node's disk held more than at the start: what the file system lost, without the registry's part.
    pub(crate) node_bytes_peak: i64,
}

/// A running sampler; it ends when it is stopped or dropped.
pub(crate) struct Sampler {
    end: Option<SyncSender<()>>,
    thread: Option<JoinHandle<Seen>>,
}

impl Sampler {
    /// Starts looking.
    pub(crate) fn start(freezer: Option<Freezer>, registry: PathBuf) -> Result<Self> {
        let disk = NodeDisk::new(registry)?;
        let (end, ended) = sync_channel(1);
        let thread = std::thread::spawn(move || look(freezer, &disk, &ended));
        Ok(Self { end: Some(end), thread: Some(thread) })
    }

    /// Stops looking.
    pub(crate) fn stop(mut self) -> Result<Seen> {
        self.end = None;
        let thread = self.thread.take().ok_or_else(|| anyhow!("the sampler was stopped before"))?;
        thread.join().map_err(|_| anyhow!("the sampler's thread panicked"))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn look(mut freezer: Option<Freezer>, disk: &NodeDisk, ended: &Receiver<()>) -> Seen {
    let mut seen = Seen::default();
    let mut tick = 0u32;
    while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        if let Some(freezer) = &mut freezer {
            freezer.look();
        }
        if tick.is_multiple_of(TICKS_OF_DISK) {
            seen.node_bytes_peak = seen.node_bytes_peak.max(disk.more());
        }
        tick = tick.wrapping_add(1);
    }
    seen.frozen = freezer.map(|freezer| freezer.total());
    seen
}

/// The node's part of a file system that the registry shares with it in this set-up.
struct NodeDisk {
    registry: PathBuf,
    taken: i64,
}

impl NodeDisk {
    fn new(registry: PathBuf) -> Result<Self> {
        let taken = taken(&registry)?;
        Ok(Self { registry, taken })
    }

    fn more(&self) -> i64 {
        taken(&self.registry).map_or(0, |now| now - self.taken)
    }
}

fn taken(registry: &Path) -> Result<i64> {
    // Free space counts down as the disk fills.
    Ok(-signed(free(registry)?, 0) - signed(used(registry)?, 0))
}
