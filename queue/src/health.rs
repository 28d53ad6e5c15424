//! What the queue says about itself, for `doctor` and for metrics.

use crate::QueueError;

/// How the queue is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether wake-ups can be handed over at all.
    pub connected: bool,
    /// Whether the broker holds publishers back (memory or disk alarm).
    pub blocked: bool,
    /// Subscriptions of this process that are live at the moment.
    pub consumers: usize,
    /// Messages that nobody could use; unknown while the broker cannot be asked.
    pub dead_letters: Option<u64>,
    /// Why the queue is not well, if it is not.
    pub problem: Option<QueueError>,
}

/// A message that nobody could use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why it is here, in the broker's words: `rejected` (not readable), `delivery_limit` (given back
    /// too often), `expired`, `maxlen`.
    pub reason: String,
    /// The queue it was in.
    pub queue: String,
    /// Its id, if it had one: the job's.
    pub message_id: Option<String>,
    /// How its body begins; at most [`DeadLetter::BODY_CHARS_MAX`] characters.
    pub body: String,
}

impl DeadLetter {
    /// How much of the body is shown.
    pub const BODY_CHARS_MAX: usize = 200;

    /// Cuts a body to what is shown of it.
    pub(crate) fn body_start(body: &[u8]) -> String {
        String::from_utf8_lossy(body).chars().take(Self::BODY_CHARS_MAX).collect()
    }
}
