//! What can go wrong with a wake-up.

use crate::Target;
use std::time::Duration;

/// Why the queue did not do what was asked. No variant ever holds the broker's password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The target has no queue: its worker has never run. Nothing was stored.
    #[error("no queue exists for {target}")]
    Unroutable {
        /// Whom the wake-up was for.
        target: Target,
    },
    /// The target's queue is full, or the broker would not store the message. Nothing was stored.
    #[error("the queue of {target} refused the wake-up: it is full or the broker cannot store it")]
    Refused {
        /// Whom the wake-up was for.
        target: Target,
    },
    /// The broker did not confirm in time. The message may have been stored.
    #[error("the broker did not answer within {limit:?}")]
    Timeout {
        /// How long was waited.
        limit: Duration,
    },
    /// The broker holds publishers back. The message may be stored when it lets go.
    #[error("the broker holds publishers back: it is short of memory or disk")]
    Blocked,
    /// The broker cannot be reached, or the connection broke. The message may have been stored.
    #[error("the broker is not available: {reason}")]
    Unavailable {
        /// What was seen.
        reason: String,
    },
    /// The broker refused the user, the password, the virtual host, or a permission.
    #[error("the broker denied access: {reason}")]
    Denied {
        /// The broker's words.
        reason: String,
    },
    /// A queue or exchange of that name exists with other arguments than this version wants.
    #[error("the broker holds a queue or exchange of the same name with other arguments: {reason}")]
    Inequivalent {
        /// The broker's words.
        reason: String,
    },
    /// The broker's URL is not one. Its text is not repeated, since a password may stand in it.
    #[error("the queue's URL cannot be read; expected amqp://user:password@host:port/vhost")]
    BadUrl,
    /// A delivery was settled after it was taken away: its consumer or connection is gone. The
    /// message comes again, to somebody.
    #[error("the delivery is not ours any more; it will come again")]
    Stale,
    /// [`Queue::close`](crate::Queue::close) was called.
    #[error("the queue is closed")]
    Closed,
}

impl QueueError {
    /// What an operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unroutable { .. } => "Start the node's worker once; the job waits for it.",
            Self::Refused { .. } => {
                "See why the node's worker does not consume; the scheduler publishes again."
            }
            Self::Timeout { .. } => "Look at the broker's load and its log; the scheduler publishes again.",
            Self::Blocked => {
                "Free memory or disk on the broker's machine (`rabbitmqctl status` names the alarm)."
            }
            Self::Unavailable { .. } => {
                "Check that the broker runs and that `queue.url` names its host and port."
            }
            Self::Denied { .. } => {
                "Check user, password and virtual host of `queue.url` and the user's permissions on the broker."
            }
            Self::Inequivalent { .. } => {
                "Stop the workers, let the queue run empty and delete it (`rabbitmqctl delete_queue NAME`); it is made anew at the next start."
            }
            Self::BadUrl => {
                "Set `queue.url` to amqp://user:password@host:port/vhost; percent-encode special characters."
            }
            Self::Stale => "Nothing: the message is delivered again.",
            Self::Closed => "Nothing: the process is stopping.",
        }
    }

    /// Whether trying again without a person's help may succeed.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Denied { .. } | Self::Inequivalent { .. } | Self::BadUrl | Self::Closed)
    }
}
