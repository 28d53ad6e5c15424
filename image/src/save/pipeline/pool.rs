//! What the layers of a save share: the threads that compress, and the bound on memory.

use crate::save::codec::{BLOCK_BYTES, Codec, Compressor};
use bytes::Bytes;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot};

/// How many layers are on their way at once when nothing else is said: docker-registry uses one core for each.
const LAYERS_AT_ONCE: usize = 3;
/// Memory when nothing else is said, in bytes.
const MEMORY_BYTES: usize = 80 * 1024 * 1024;
/// Raw blocks kept for the next ones, so that memory is not asked of the system again and again.
const SPARE_BLOCKS: usize = 8;

/// How a save uses the machine.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// How layers are compressed.
    pub codec: Codec,
    /// Threads that compress; as many as there are cores.
    pub threads: usize,
    /// Layers on their way at once.
    pub layers_at_once: usize,
    /// Most bytes of blocks in memory, of all layers together and in every state.
    pub memory_bytes: usize,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            codec: Codec::default(),
            threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            layers_at_once: LAYERS_AT_ONCE,
            memory_bytes: MEMORY_BYTES,
        }
    }
}

/// A block that was filled, and the leave to hold it.
pub(super) struct Raw {
    pub(super) bytes: Vec<u8>,
    pub(super) leave: OwnedSemaphorePermit,
}

/// A block that was compressed.
pub(super) struct Packed {
    pub(super) bytes: Bytes,
    pub(super) leave: OwnedSemaphorePermit,
}

/// Where a block's compressed form will come from.
pub(super) type Slot = oneshot::Receiver<io::Result<Packed>>;

struct Job {
    raw: Raw,
    reply: oneshot::Sender<io::Result<Packed>>,
}

/// The threads that compress and the bound on memory, by as many layers at once as there is memory for. One
/// serves all layers of a save; it ends its threads when it is dropped.
#[derive(Debug)]
pub struct Pool {
    settings: PoolSettings,
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
    layers: Arc<Semaphore>,
    /// Blocks that one layer may hold: one whose line stands still does not starve the others.
    quota: usize,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Pool {
    /// Starts the threads.
    pub fn new(settings: PoolSettings) -> io::Result<Self> {
        let window = super::feed::WINDOW_BYTES * settings.layers_at_once;
        let blocks = settings.memory_bytes.saturating_sub(window) / BLOCK_BYTES;
        let layers = settings.layers_at_once.max(1);
        // One block to fill and one on its way, or a layer stands still.
        let quota = (blocks.saturating_sub(SPARE_BLOCKS) / layers).max(2);
        let (jobs, queue) = sync_channel::<Job>(layers * quota);
        let queue = Arc::new(Mutex::new(queue));
        let spare = Arc::new(Mutex::new(Vec::new()));
        let mut pool = Self {
            jobs: Some(jobs),
            threads: Vec::new(),
            layers: Arc::new(Semaphore::new(layers)),
            quota,
            spare,
            settings,
        };
        for number in 0..pool.settings.threads.max(1) {
            let compressor = Compressor::new(pool.settings.codec)?;
            let (queue, spare) = (queue.clone(), pool.spare.clone());
            let thread = std::thread::Builder::new()
                .name(format!("compress-{number}"))
                .spawn(move || work(compressor, &queue, &spare))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// How it uses the machine.
    pub fn settings(&self) -> &PoolSettings {
        &self.settings
    }

    /// Blocks that one layer may hold.
    pub(super) fn quota(&self) -> usize {
        self.quota
    }

    /// Waits for one's turn to bring a layer up.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.layers.clone().acquire_owned().await
    }

    /// An empty block.
    pub(super) fn block(&self) -> Vec<u8> {
        lock(&self.spare).pop().unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES))
    }

    /// Has a block compressed.
    pub(super) fn pack(&self, raw: Raw) -> io::Result<Slot> {
        let (reply, slot) = oneshot::channel();
        let ended = || io::Error::other("the threads that compress have ended");
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        // There is room for every block that can exist.
        jobs.send(Job { raw, reply }).map_err(|_| ended())?;
        Ok(slot)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has answered nobody; its layer has failed already.
            drop(thread.join());
        }
    }
}

fn work(mut compressor: Compressor, queue: &Mutex<Receiver<Job>>, spare: &Mutex<Vec<Vec<u8>>>) {
    loop {
        let next = lock(queue).recv();
        let Ok(Job { raw: Raw { mut bytes, leave }, reply }) = next else { return };
        if reply.is_closed() {
            continue;
        }
        let packed = compressor.block(&bytes).map(|bytes| Packed { bytes, leave });
        bytes.clear();
        let mut spare = lock(spare);
        if spare.len() < SPARE_BLOCKS {
            spare.push(bytes);
        }
        drop(spare);
        // Nobody waits any more when the layer was given up.
        drop(reply.send(packed));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
