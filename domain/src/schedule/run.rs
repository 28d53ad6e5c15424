//! What is kept of a schedule's runs.

use super::Plan;
use crate::id::{ContainerId, JobId, ScheduleId};
use crate::name::ContainerName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a run came to, or where it stands for one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// It waits for its turn: another job is in the way.
    Waiting,
    /// A job was started.
    Started,
    /// A job of the same user that does the same was under way.
    Joined,
    /// All was as it should be.
    Nothing,
    /// Protected, or kept by its owner.
    LeftAlone,
    /// It could not be done; the reason says why.
    NotRun,
    /// Its owner wanted this run left out.
    Skipped,
    /// Nobody kept time when it was due.
    Missed,
}

impl RunOutcome {
    /// Every outcome.
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Started,
        Self::Joined,
        Self::Nothing,
        Self::LeftAlone,
        Self::NotRun,
        Self::Skipped,
        Self::Missed,
    ];

    /// The outcome as it stands in JSON and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Started => "started",
            Self::Joined => "joined",
            Self::Nothing => "nothing",
            Self::LeftAlone => "left_alone",
            Self::NotRun => "not_run",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
        }
    }
}

impl fmt::Display for RunOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a run did to one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTarget {
    /// The container.
    pub container: ContainerId,
    /// Its name then.
    pub name: ContainerName,
    /// What came of it.
    pub outcome: RunOutcome,
    /// The job that was started or joined.
    pub job: Option<JobId>,
    /// Why there is none, or what it waits for; a sentence.
    pub reason: Option<String>,
}

/// One run of a schedule, as the store keeps it: named by the schedule and the planned time, and so there once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The planned time.
    pub planned_at: Timestamp,
    /// What it does, as it was planned then.
    pub plan: Plan,
    /// When it began, by the store's clock.
    pub fired_at: Timestamp,
    /// When nothing of it waited any more.
    pub finished_at: Option<Timestamp>,
    /// Until when it waits for jobs in its way.
    pub waits_until: Timestamp,
    /// Earlier runs that were missed.
    pub missed: u32,
    /// What it came to as a whole, where no container was attended to: skipped, missed, or not run.
    pub whole: Option<RunOutcome>,
    /// Why, in a sentence.
    pub reason: Option<String>,
    /// What was done to each container; none while they have not been looked up.
    pub targets: Option<Vec<RunTarget>>,
}

impl Run {
    /// What it came to: the most telling outcome of its containers.
    pub fn outcome(&self) -> RunOutcome {
        use RunOutcome as O;
        if let Some(whole) = self.whole {
            return whole;
        }
        let Some(targets) = &self.targets else { return O::Waiting };
        let any = |outcome| targets.iter().any(|t| t.outcome == outcome);
        let order = [O::Waiting, O::Started, O::Joined, O::NotRun, O::LeftAlone];
        order.into_iter().find(|outcome| any(*outcome)).unwrap_or(O::Nothing)
    }

    /// Whether something of it still waits.
    pub fn is_over(&self) -> bool {
        self.outcome() != RunOutcome::Waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_serde_and_the_most_telling_outcome_counts() {
        for outcome in RunOutcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
        let mut run = Run {
            schedule: ScheduleId(uuid::Uuid::nil()),
            planned_at: Timestamp::UNIX_EPOCH,
            plan: super::super::tests::schedule("0 20 * * *", "UTC", "2026-01-01T00:00:00Z").plan,
            fired_at: Timestamp::UNIX_EPOCH,
            finished_at: None,
            waits_until: Timestamp::UNIX_EPOCH,
            missed: 0,
            whole: None,
            reason: None,
            targets: None,
        };
        assert!(!run.is_over());
        let target = |outcome| RunTarget {
            container: ContainerId(1),
            name: ContainerName::new("box").unwrap(),
            outcome,
            job: None,
            reason: None,
        };
        for (outcomes, whole) in [
            (vec![], RunOutcome::Nothing),
            (vec![RunOutcome::Nothing, RunOutcome::LeftAlone], RunOutcome::LeftAlone),
            (vec![RunOutcome::NotRun, RunOutcome::Started], RunOutcome::Started),
            (vec![RunOutcome::Started, RunOutcome::Waiting], RunOutcome::Waiting),
        ] {
            run.targets = Some(outcomes.into_iter().map(target).collect());
            assert_eq!(run.outcome(), whole);
        }
        run.whole = Some(RunOutcome::Missed);
        assert!(run.is_over());
    }
}
