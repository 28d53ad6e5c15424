//! What people and programs are told of, and how.
//!
//! A [`Notice`] is written in the very step that brought about what it tells (an *outbox*), so that nothing that happened
//! goes untold and nothing that did not happen is told. The scheduler spreads it to those who want it, one
//! [`delivery`] each, and sees to it that they arrive.

pub mod delivery;
mod event;
pub mod preferences;
pub mod reach;
pub mod webhook;
pub mod words;

pub use event::{Event, UnknownEvent};

use crate::failure::Failure;
use crate::id::{ContainerId, JobId, NoticeId};
use crate::image::ImageRef;
use crate::job::JobKind;
use crate::name::{ContainerName, FlavorName, ProjectName, UserName};
use crate::policy::Reason;
use crate::retention;
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Something that happened, and whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its id, the same for every receiver.
    pub id: NoticeId,
    /// When it happened, by the store's clock.
    pub at: Timestamp,
    /// In which project.
    pub project: ProjectName,
    /// Whom it concerns: the owner of the container, the job or the image. None: the project's admins.
    pub user: Option<UserName>,
    /// What happened.
    pub news: News,
}

/// A container, as a notice names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its number.
    pub id: ContainerId,
    /// Its name at the time.
    pub name: ContainerName,
}

/// What happened. Amounts are decimals in the platform's currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum News {
    /// A job ended, well or not.
    Job {
        /// Which.
        job: JobId,
        /// Its kind.
        kind: JobKind,
        /// The container it was about.
        container: Option<Subject>,
        /// The image as users know it.
        image: Option<String>,
        /// Why it failed; none where it succeeded.
        error: Option<Failure>,
    },
    /// A policy will have a container parked, unless the reason goes away or somebody keeps it.
    Warned {
        /// Which container.
        container: Subject,
        /// Why.
        reason: Reason,
        /// When; nothing is parked where the container is protected.
        park_at: Timestamp,
        /// Whether it is protected, so that it stays and goes on costing.
        protected: bool,
        /// What an hour of it costs.
        per_hour: Decimal,
        /// Opens the page that keeps it: whoever holds it may. None where it is protected.
        keep: Option<KeepToken>,
    },
    /// The grace is over: a job to park it was submitted.
    Parking {
        /// Which container.
        container: Subject,
        /// Why.
        reason: Reason,
        /// The job.
        job: JobId,
    },
    /// A container was parked: saved, proven and deleted.
    Parked {
        /// Which container.
        container: Subject,
        /// The image that it wakes from.
        image: ImageRef,
        /// The job.
        job: JobId,
        /// What an hour of it cost.
        per_hour: Decimal,
        /// What an hour of its image costs.
        storage_per_hour: Decimal,
        /// What it has cost so far, in all its life.
        cost: Decimal,
    },
    /// A parked container runs again.
    Woken {
        /// Which container.
        container: Subject,
        /// Its size.
        flavor: FlavorName,
        /// What an hour of it costs.
        per_hour: Decimal,
        /// The job.
        job: JobId,
    },
    /// A project reached a mark of its budget.
    Budget {
        /// The mark, in percent.
        mark: u8,
        /// What was spent this month.
        spent: Decimal,
        /// The budget of a month.
        budget: Decimal,
    },
    /// Retention will remove an image, unless it is pinned or used.
    ImageExpiring {
        /// Which.
        image: ImageRef,
        /// When.
        remove_at: Timestamp,
        /// Why.
        reason: retention::Reason,
        /// How large it is, in bytes.
        size_bytes: u64,
    },
    /// Somebody tried whether a webhook works.
    Ping,
}

impl News {
    /// Its kind, by which receivers choose.
    pub fn event(&self) -> Event {
        match self {
            Self::Job { error: None, .. } => Event::JobSucceeded,
            Self::Job { error: Some(_), .. } => Event::JobFailed,
            Self::Warned { .. } => Event::ContainerWarned,
            Self::Parking { .. } => Event::ContainerParking,
            Self::Parked { .. } => Event::ContainerParked,
            Self::Woken { .. } => Event::ContainerWoken,
            Self::Budget { .. } => Event::BudgetReached,
            Self::ImageExpiring { .. } => Event::ImageExpiring,
            Self::Ping => Event::Ping,
        }
    }
}

/// The right to keep one container from being parked, as a part of a link. It is a secret: it is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeepToken(String);

impl KeepToken {
    /// How long a token is: 32 random bytes in hexadecimal.
    const LEN: usize = 64;

    /// The token of these random bytes.
    pub fn of(random: [u8; 32]) -> Self {
        use std::fmt::Write;
        let mut text = String::with_capacity(Self::LEN);
        for byte in random {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// Reads one from a link; none where it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == Self::LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        good.then(|| Self(text.to_owned()))
    }

    /// The token itself, for the link.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for KeepToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeepToken(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keep_token_is_read_back_and_never_printed() {
        let token = KeepToken::of([0xa7; 32]);
        assert_eq!(KeepToken::parse(token.expose()), Some(token.clone()));
        assert!(!format!("{token:?}").contains("a7"));
        let (short, foreign) = ("a7".repeat(31), "A7".repeat(32));
        for bad in ["", &short, &foreign, "../../etc/passwd"] {
            assert_eq!(KeepToken::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_job_that_failed_is_another_event_than_one_that_did_not() {
        use crate::failure::FailureClass;
        let ended = |error| News::Job {
            job: JobId(uuid::Uuid::nil()),
            kind: JobKind::Snapshot,
            container: None,
            image: None,
            error,
        };
        assert_eq!(ended(None).event(), Event::JobSucceeded);
        let failure = Failure::permanent(FailureClass::Quota, "full");
        assert_eq!(ended(Some(failure)).event(), Event::JobFailed);
    }
}
