//! One notice on its way to one receiver.

use super::Notice;
use super::preferences::{EmailAddress, Language};
use crate::id::{DeliveryId, WebhookId};
use crate::name::UserName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Receiver {
    /// A program.
    Webhook {
        /// Its webhook; where to and the secret stand in its record.
        id: WebhookId,
    },
    /// A person.
    Email {
        /// Who.
        user: UserName,
        /// Their address, as it was when it happened.
        address: EmailAddress,
        /// In which language.
        language: Language,
    },
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It has not arrived yet, and is tried again.
    Pending,
    /// It arrived.
    Delivered,
    /// It did not arrive, and is not tried any more.
    Failed,
}

impl DeliveryState {
    /// The state as it stands in JSON and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// When it ended, by the store's clock.
    pub at: Timestamp,
    /// How it ended, in words: "200 OK", "connection refused", …
    pub result: String,
}

/// One notice on its way to one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// What is told.
    pub notice: Notice,
    /// Whom.
    pub to: Receiver,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was taken up: whoever took it up last may say how it ended.
    pub taken: u32,
    /// Tries since it was made or asked for again.
    pub tries: u32,
    /// The newest tries, oldest first; at most [`TRIES_KEPT`].
    pub log: Vec<Try>,
    /// When it is tried next; none where it is not.
    pub next_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Tries whose results are kept.
pub const TRIES_KEPT: usize = 16;
/// Longest text that is kept of a result, in characters.
pub const RESULT_CHARS_MAX: usize = 300;

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It arrived.
    Arrived(String),
    /// It did not, and may later.
    Again(String),
    /// It never will: the receiver refused it, or there is nothing to send it with.
    Never(String),
}

/// When what did not arrive is tried again. Tries are further and further apart, so that a receiver that is away for an
/// hour costs little and one that is away for a night misses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryRetry {
    /// Tries in all.
    pub max: u32,
    /// The wait after the first.
    pub first: Duration,
}

/// Each wait is so many times the one before.
const WAIT_GROWTH: u32 = 4;
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_hours(12);

impl DeliveryRetry {
    /// The wait after try number `tries` (1, 2, …).
    pub fn wait(&self, tries: u32) -> Duration {
        let factor = WAIT_GROWTH.checked_pow(tries.saturating_sub(1));
        factor.and_then(|f| self.first.checked_mul(f)).unwrap_or(WAIT_MAX).min(WAIT_MAX)
    }
}

impl Delivery {
    /// Writes down how a try ended.
    pub fn end_try(&mut self, ended: &Ended, now: Timestamp, retry: &DeliveryRetry) {
        self.tries = self.tries.saturating_add(1);
        let (Ended::Arrived(result) | Ended::Again(result) | Ended::Never(result)) = ended;
        self.log.push(Try { at: now, result: result.chars().take(RESULT_CHARS_MAX).collect() });
        let surplus = self.log.len().saturating_sub(TRIES_KEPT);
        self.log.drain(..surplus);
        self.next_at = None;
        self.state = match ended {
            Ended::Arrived(_) => DeliveryState::Delivered,
            Ended::Again(_) if self.tries < retry.max => {
                self.next_at = now.saturating_add(retry.wait(self.tries)).ok();
                DeliveryState::Pending
            }
            Ended::Again(_) | Ended::Never(_) => DeliveryState::Failed,
        };
    }

    /// Has it sent once more, with as many tries as a new one.
    pub fn replay(&mut self, now: Timestamp) {
        self.state = DeliveryState::Pending;
        self.tries = 0;
        self.next_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NoticeId;
    use crate::notice::News;
    use uuid::Uuid;

    fn delivery() -> Delivery {
        let notice = Notice {
            id: NoticeId(Uuid::nil()),
            at: Timestamp::UNIX_EPOCH,
            project: "p".parse().unwrap(),
            user: None,
            news: News::Ping,
        };
        Delivery {
            id: DeliveryId(Uuid::nil()),
            notice,
            to: Receiver::Webhook { id: WebhookId(Uuid::nil()) },
            state: DeliveryState::Pending,
            taken: 0,
            tries: 0,
            log: Vec::new(),
            next_at: Some(Timestamp::UNIX_EPOCH),
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn waits_grow_up_to_half_a_day() {
        let retry = DeliveryRetry { max: 8, first: Duration::from_secs(5) };
        let waits: Vec<u64> = (1..=9).map(|n| retry.wait(n).as_secs()).collect();
        assert_eq!(waits, [5, 20, 80, 320, 1280, 5120, 20480, 43200, 43200]);
        assert_eq!(retry.wait(u32::MAX), WAIT_MAX);
    }

    #[test]
    fn what_does_not_arrive_is_tried_so_often_and_can_be_asked_for_again() {
        let retry = DeliveryRetry { max: 3, first: Duration::from_secs(1) };
        let mut delivery = delivery();
        let refused = Ended::Again("503".to_owned());
        delivery.end_try(&refused, at(10), &retry);
        assert_eq!((delivery.state, delivery.next_at), (DeliveryState::Pending, Some(at(11))));
        delivery.end_try(&refused, at(11), &retry);
        assert_eq!((delivery.state, delivery.next_at), (DeliveryState::Pending, Some(at(15))));
        delivery.end_try(&refused, at(15), &retry);
        assert_eq!((delivery.state, delivery.next_at), (DeliveryState::Failed, None));
        delivery.replay(at(99));
        assert_eq!(
            (delivery.state, delivery.next_at, delivery.tries),
            (DeliveryState::Pending, Some(at(99)), 0)
        );
        delivery.end_try(&Ended::Arrived("200 OK".to_owned()), at(100), &retry);
        assert_eq!((delivery.state, delivery.next_at), (DeliveryState::Delivered, None));
        let results: Vec<&str> = delivery.log.iter().map(|t| t.result.as_str()).collect();
        assert_eq!(results, ["503", "503", "503", "200 OK"]);
    }

    #[test]
    fn what_is_refused_for_good_is_not_tried_again_and_the_log_is_bounded() {
        let retry = DeliveryRetry { max: 100, first: Duration::from_secs(1) };
        let mut gone = delivery();
        gone.end_try(&Ended::Never("410".to_owned()), at(1), &retry);
        assert_eq!((gone.state, gone.next_at), (DeliveryState::Failed, None));
        let mut slow = delivery();
        for n in 0..40 {
            slow.end_try(&Ended::Again(format!("{n} {}", "x".repeat(1000))), at(n), &retry);
        }
        assert_eq!(slow.log.len(), TRIES_KEPT);
        assert!(slow.log[15].result.starts_with("39 ") && slow.log[15].result.len() <= RESULT_CHARS_MAX);
    }
}
