//! The queue inside one process: what `--target all` ships for one machine, and what tests run on.
//!
//! A wake-up lives in memory only. That may be: when the process ends, or a queue is full, or nobody
//! ever declared it, the wake-up is lost, but the job is in the store with a due time, and the
//! scheduler publishes whatever is due again. Within the process it is delivered at least once.

mod inbox;
mod lane;

pub(crate) use inbox::{Inbox, Receipt};

use crate::delivery::Source;
use crate::{DeadLetter, Health, QueueError, Subscription, Target};
use lane::{Board, Seat};
use mothball_domain::id::JobId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A queue in this process. A clone is another handle on the same queue.
#[derive(Debug, Clone)]
pub struct Local(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    board: Mutex<Board>,
    /// Rung after every change that may give some subscription something to do.
    changed: Notify,
    closing: CancellationToken,
}

impl Shared {
    /// Runs `change` on the board and tells the subscriptions.
    fn change<T>(&self, change: impl FnOnce(&mut Board) -> T) -> T {
        let out = change(&mut self.board());
        self.changed.notify_waiters();
        out
    }

    /// The board is whole after every change, so a panic elsewhere does not spoil it.
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<(), QueueError> {
        if self.closing.is_cancelled() { Err(QueueError::Closed) } else { Ok(()) }
    }
}

impl Local {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn wake(&self, target: &Target, job: JobId) -> Result<(), QueueError> {
        self.0.open()?;
        self.0.change(|board| board.push(target, job))
    }

    pub(crate) fn declare(&self, target: &Target) -> Result<(), QueueError> {
        self.0.open()?;
        self.0.change(|board| board.declare(target));
        Ok(())
    }

    pub(crate) fn subscribe(
        &self,
        targets: Vec<Target>,
        prefetch: u16,
        cancel: CancellationToken,
    ) -> Subscription {
        let seat = self.0.change(|board| {
            for target in &targets {
                board.declare(target);
            }
            board.sit_down()
        });
        let seat = Seat { id: seat, targets, prefetch: usize::from(prefetch.max(1)) };
        Subscription(Source::Local(Inbox::new(Arc::clone(&self.0), seat, cancel)))
    }

    pub(crate) fn health(&self) -> Result<Health, QueueError> {
        self.0.open()?;
        let board = self.0.board();
        Ok(Health {
            connected: true,
            blocked: false,
            consumers: board.seats(),
            dead_letters: Some(board.dead().len() as u64),
            problem: None,
        })
    }

    pub(crate) fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        self.0.open()?;
        Ok(self.0.board().dead().iter().take(limit).cloned().collect())
    }

    pub(crate) fn close(&self) {
        self.0.closing.cancel();
    }
}
