//! The job state machine: one pure total function. An event that a state does not allow is an error
//! value, never a panic and never silently ignored.
//!
//! ```text
//!              publish           claim                       all steps done
//!  (create) -> Queued -----------------------> Running -----------------------> Succeeded
//!                ^  ^                            | | |
//!    due, retry  |  |  interrupted (shutdown):   | | +-- permanent, or attempts used up --> Failed  -- retry --> Queued
//!                |  +-- costs no attempt --------+ |
//!             Retrying <--- transient, lease expired        Queued | Running | Retrying -- cancel --> Cancelled
//! ```

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Recorded, and waiting for a worker. A worker's claim moves it on; it is stranded when no worker
    /// of its node lives, which the scheduler notices (`waiting_for`).
    Queued,
    /// A worker holds its lease. The worker moves it on; a dead worker strands it until the lease ends.
    Running,
    /// An attempt failed and another is due at `next_attempt_at`. A worker's claim moves it on.
    Retrying,
    /// Every step held. Final.
    Succeeded,
    /// Given up. Final, unless a person retries it.
    Failed,
    /// Stopped by a person. Final, unless a person retries it.
    Cancelled,
}

/// What can happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// A worker took the lease.
    Claim,
    /// The holder finished every step.
    Complete,
    /// The attempt failed, and another may help and is left.
    FailTransient,
    /// The attempt failed for good, or was the last.
    FailPermanent,
    /// The holder is shutting down in order: the attempt does not count.
    Interrupt,
    /// The lease ended without a word of its holder, and an attempt is left.
    LeaseExpired,
    /// A person stopped it, and whoever had to clean up has done so.
    Cancel,
    /// A person wants a job that failed or was cancelled tried again.
    Retry,
}

/// An event that the state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {state} job cannot take the event {event:?}")]
pub struct IllegalTransition {
    /// The state the job was in.
    pub state: JobState,
    /// The event that came.
    pub event: Transition,
}

impl JobState {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Retrying, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The state after `event`.
    #[expect(clippy::match_same_arms, reason = "one line for each arrow of the diagram above")]
    pub fn next(self, event: Transition) -> Result<Self, IllegalTransition> {
        use JobState as S;
        use Transition as T;
        match (self, event) {
            (S::Queued | S::Retrying, T::Claim) => Ok(S::Running),
            (S::Running, T::Complete) => Ok(S::Succeeded),
            (S::Running, T::FailTransient | T::LeaseExpired) => Ok(S::Retrying),
            // A job that never ran can fail too: its node is gone for good.
            (S::Queued | S::Running | S::Retrying, T::FailPermanent) => Ok(S::Failed),
            (S::Running, T::Interrupt) => Ok(S::Queued),
            (S::Queued | S::Running | S::Retrying, T::Cancel) => Ok(S::Cancelled),
            (S::Failed | S::Cancelled, T::Retry) => Ok(S::Queued),
            (state, event) => Err(IllegalTransition { state, event }),
        }
    }

    /// Whether nothing but a person's retry will change it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The state as it stands in JSON and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for JobState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|s| s.as_str() == text);
        found.ok_or_else(|| {
            "state is one of queued, running, retrying, succeeded, failed, cancelled".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVENTS: [Transition; 8] = [
        Transition::Claim,
        Transition::Complete,
        Transition::FailTransient,
        Transition::FailPermanent,
        Transition::Interrupt,
        Transition::LeaseExpired,
        Transition::Cancel,
        Transition::Retry,
    ];

    /// The whole table, written out once more by hand: rows are states, columns are `EVENTS`.
    #[test]
    fn the_table() {
        use JobState::*;
        let table: [(JobState, [Option<JobState>; 8]); 6] = [
            (Queued, [Some(Running), None, None, Some(Failed), None, None, Some(Cancelled), None]),
            (
                Running,
                [
                    None,
                    Some(Succeeded),
                    Some(Retrying),
                    Some(Failed),
                    Some(Queued),
                    Some(Retrying),
                    Some(Cancelled),
                    None,
                ],
            ),
            (Retrying, [Some(Running), None, None, Some(Failed), None, None, Some(Cancelled), None]),
            (Succeeded, [None; 8]),
            (Failed, [None, None, None, None, None, None, None, Some(Queued)]),
            (Cancelled, [None, None, None, None, None, None, None, Some(Queued)]),
        ];
        for (state, row) in table {
            for (event, expected) in EVENTS.into_iter().zip(row) {
                assert_eq!(state.next(event).ok(), expected, "{state} {event:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn success_is_reached_only_from_running_and_never_left(events in prop::collection::vec(0..8usize, 0..40)) {
            let mut state = JobState::Queued;
            for event in events {
                if let Ok(next) = state.next(EVENTS[event]) {
                    prop_assert!(next != JobState::Succeeded || state == JobState::Running);
                    prop_assert_ne!(state, JobState::Succeeded);
                    state = next;
                }
            }
        }

        #[test]
        fn names_are_read_back(i in 0..6usize) {
            let state = JobState::ALL[i];
            prop_assert_eq!(state.as_str().parse::<JobState>().unwrap(), state);
            prop_assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
