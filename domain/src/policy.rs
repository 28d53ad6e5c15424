//! What a project lets Mothball do by itself to stop a bill: warn, wait, park.
//!
//! A container that gives a reason (its project's budget is used up, it has run for too long, it is idle) is warned of,
//! parked after a grace, and left alone as soon as the reason is gone or somebody asks to keep it. Nothing here acts:
//! [`decide`] says what is to be done now, and the scheduler does it.

use crate::id::JobId;
use crate::usage::IdleRule;
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What a project's admin has set. Nothing of it is on by itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParkPolicy {
    /// Containers that are idle are parked.
    pub idle: Option<IdleRule>,
    /// Containers that have run for so long since they became ready are parked. In seconds.
    pub lifetime_seconds: Option<u64>,
    /// Most that the project may cost in a calendar month (UTC); at that, its containers are parked.
    #[serde(with = "rust_decimal::serde::str_option")]
    pub budget_per_month: Option<Decimal>,
    /// How long after its warning a container is parked. In seconds.
    pub grace_seconds: Option<u64>,
}

/// What the platform's operator allows projects to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyBounds {
    /// Shortest grace, in seconds.
    pub grace_seconds_min: u64,
    /// Longest grace, in seconds.
    pub grace_seconds_max: u64,
    /// Shortest lifetime, in seconds.
    pub lifetime_seconds_min: u64,
    /// Shortest time of idleness, in seconds: a pause for thought is not idleness.
    pub idle_seconds_min: u64,
}

/// The grace where a policy names none: half an hour.
pub const GRACE_SECONDS_USUAL: u64 = 30 * 60;

/// Shares of the budget, in percent, at which the project is told.
pub const BUDGET_MARKS: [u8; 3] = [50, 80, 100];

/// Highest budget, 10^15: a hundred times as much must still be an exact decimal.
pub const BUDGET_MAX: Decimal = Decimal::from_parts(2_764_472_320, 232_830, 0, false, 0);

impl Default for PolicyBounds {
    fn default() -> Self {
        Self {
            grace_seconds_min: 60,
            grace_seconds_max: 7 * 24 * 3600,
            lifetime_seconds_min: 3600,
            idle_seconds_min: 60,
        }
    }
}

impl ParkPolicy {
    /// Refuses what cannot be meant, or what the platform does not allow.
    pub fn check(&self, bounds: &PolicyBounds) -> Result<(), String> {
        if let Some(idle) = &self.idle {
            idle.check(bounds.idle_seconds_min)?;
        }
        if self.lifetime_seconds.is_some_and(|s| s < bounds.lifetime_seconds_min) {
            return Err(format!("lifetime_seconds is at least {}", bounds.lifetime_seconds_min));
        }
        if self.budget_per_month.is_some_and(|b| b <= Decimal::ZERO || b > BUDGET_MAX) {
            return Err(format!("budget_per_month is above 0 and at most {BUDGET_MAX}"));
        }
        let (min, max) = (bounds.grace_seconds_min, bounds.grace_seconds_max);
        if self.grace_seconds.is_some_and(|s| !(min..=max).contains(&s)) {
            return Err(format!("grace_seconds is between {min} and {max}"));
        }
        Ok(())
    }

    /// Whether nothing is a reason to park anything.
    pub fn is_off(&self) -> bool {
        self.idle.is_none() && self.lifetime_seconds.is_none() && self.budget_per_month.is_none()
    }

    /// How long after its warning a container is parked.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds.unwrap_or(GRACE_SECONDS_USUAL))
    }

    /// The highest mark of the budget that `spent` has reached; none below the first, or without a budget.
    pub fn budget_mark(&self, spent: Decimal) -> Option<u8> {
        let budget = self.budget_per_month?;
        BUDGET_MARKS
            .into_iter()
            .rev()
            .find(|mark| spent * Decimal::from(100) >= budget * Decimal::from(*mark))
    }
}

/// Why a container is to be parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The project's budget of the month is used up.
    Budget,
    /// It has run for as long as the project allows.
    Lifetime,
    /// It is idle.
    Idle,
}

impl Reason {
    /// The reason as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Lifetime => "lifetime",
            Self::Idle => "idle",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// That a container's owner was warned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Why.
    pub reason: Reason,
    /// When, by the store's clock.
    pub warned_at: Timestamp,
    /// When the container is parked, unless the reason goes away.
    pub park_at: Timestamp,
    /// Whether it is protected, so that its owner was told and it stays.
    #[serde(default)]
    pub protected: bool,
    /// The job that was to park it last; one that failed is repeated a whole grace after its end.
    #[serde(default)]
    pub tried: Option<JobId>,
}

/// A container as a policy sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Whether it exists, running or stopped, and no job is at work on it.
    pub at_rest: bool,
    /// Since when it has been billed without a break.
    pub ready_since: Option<Timestamp>,
    /// Since when it has been idle by the policy's rule, where that is long enough, seen often enough, and seen lately.
    pub idle_since: Option<Timestamp>,
    /// Whether its deletion is refused.
    pub protected: bool,
    /// Until when its owner keeps it.
    pub keep_until: Option<Timestamp>,
}

/// What is to be done about a container now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Leave,
    /// Write the warning down and tell the owner.
    Warn(Warning),
    /// The reason is gone: take the warning back.
    Withdraw,
    /// Park it, for the warning's reason.
    Park(Warning),
}

/// Says what is to be done about a container. `spent` is what its project has cost this month.
pub fn decide(
    policy: &ParkPolicy,
    candidate: &Candidate,
    spent: Decimal,
    standing: Option<&Warning>,
    now: Timestamp,
) -> Verdict {
    let withdraw = if standing.is_some() { Verdict::Withdraw } else { Verdict::Leave };
    if policy.is_off() {
        // Whatever is at work on it: a warning does not outlive its policy.
        return withdraw;
    }
    if !candidate.at_rest {
        // A job is at work on it: what comes of it is seen next time, and until then the warning stands.
        return Verdict::Leave;
    }
    if candidate.keep_until.is_some_and(|until| until > now) {
        return withdraw;
    }
    let Some(reason) = reason(policy, candidate, spent, now) else { return withdraw };
    match standing {
        Some(warning) if warning.reason == reason && warning.protected == candidate.protected => {
            if warning.protected || now < warning.park_at { Verdict::Leave } else { Verdict::Park(*warning) }
        }
        // Another reason, or its protection was switched: its owner hears of it, and has the whole grace again.
        _ => Verdict::Warn(Warning {
            reason,
            warned_at: now,
            park_at: now.saturating_add(policy.grace()).unwrap_or(Timestamp::MAX),
            protected: candidate.protected,
            tried: None,
        }),
    }
}

/// The strongest reason to park a container: the one that its owner can do least about first.
fn reason(policy: &ParkPolicy, candidate: &Candidate, spent: Decimal, now: Timestamp) -> Option<Reason> {
    if policy.budget_per_month.is_some_and(|budget| spent >= budget) {
        return Some(Reason::Budget);
    }
    let lived = candidate.ready_since.map(|since| now.as_second().saturating_sub(since.as_second()));
    if let (Some(max), Some(lived)) = (policy.lifetime_seconds, lived)
        && lived >= i64::try_from(max).unwrap_or(i64::MAX)
    {
        return Some(Reason::Lifetime);
    }
    (policy.idle.is_some() && candidate.idle_since.is_some()).then_some(Reason::Idle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn policy() -> ParkPolicy {
        let idle = IdleRule {
            gpu_below: Some(0.05),
            cpu_below: None,
            network_below: None,
            terminals: false,
            window_seconds: 600,
            samples: 3,
        };
        ParkPolicy {
            idle: Some(idle),
            lifetime_seconds: Some(100_000),
            budget_per_month: Some(Decimal::from(1000)),
            grace_seconds: Some(300),
        }
    }

    fn idle() -> Candidate {
        Candidate {
            at_rest: true,
            ready_since: Some(at(0)),
            idle_since: Some(at(1000)),
            protected: false,
            keep_until: None,
        }
    }

    fn decided(candidate: &Candidate, standing: Option<&Warning>, now: i64) -> Verdict {
        decide(&policy(), candidate, Decimal::ZERO, standing, at(now))
    }

    fn warning(reason: Reason, warned: i64) -> Warning {
        Warning { reason, warned_at: at(warned), park_at: at(warned + 300), protected: false, tried: None }
    }

    #[test]
    fn idle_is_warned_then_parked_after_the_grace() {
        let warned = warning(Reason::Idle, 2000);
        assert_eq!(decided(&idle(), None, 2000), Verdict::Warn(warned));
        assert_eq!(decided(&idle(), Some(&warned), 2299), Verdict::Leave);
        assert_eq!(decided(&idle(), Some(&warned), 2300), Verdict::Park(warned));
    }

    #[test]
    fn a_reason_that_goes_away_takes_its_warning_along() {
        let warned = warning(Reason::Idle, 2000);
        let busy = Candidate { idle_since: None, ..idle() };
        assert_eq!(decided(&busy, Some(&warned), 2300), Verdict::Withdraw);
        assert_eq!(decided(&busy, None, 2300), Verdict::Leave);
        let kept = Candidate { keep_until: Some(at(5000)), ..idle() };
        assert_eq!(decided(&kept, Some(&warned), 2300), Verdict::Withdraw);
        assert!(matches!(decided(&kept, None, 5000), Verdict::Warn(w) if w.park_at == at(5300)));
    }

    #[test]
    fn a_job_at_work_is_waited_for() {
        let busy = Candidate { at_rest: false, ..idle() };
        assert_eq!(decided(&busy, Some(&warning(Reason::Idle, 2000)), 9000), Verdict::Leave);
        assert_eq!(decided(&busy, None, 9000), Verdict::Leave);
    }

    #[test]
    fn a_warning_does_not_outlive_its_policy_whatever_is_at_work() {
        let busy = Candidate { at_rest: false, ..idle() };
        let standing = warning(Reason::Idle, 0);
        let off = ParkPolicy { grace_seconds: Some(60), ..ParkPolicy::default() };
        assert_eq!(decide(&off, &busy, Decimal::ZERO, Some(&standing), at(1)), Verdict::Withdraw);
        assert_eq!(decide(&off, &busy, Decimal::ZERO, None, at(1)), Verdict::Leave);
    }

    #[test]
    fn who_is_protected_is_told_once_and_never_parked() {
        let protected = Candidate { protected: true, ..idle() };
        let Verdict::Warn(told) = decided(&protected, None, 2000) else { panic!("not told") };
        assert!(told.protected);
        assert_eq!(
            decided(&protected, Some(&told), 1_000_000 - 1),
            Verdict::Warn(Warning {
                reason: Reason::Lifetime,
                warned_at: at(999_999),
                park_at: at(1_000_299),
                protected: true,
                tried: None
            })
        );
        assert_eq!(decided(&protected, Some(&told), 50_000), Verdict::Leave);
        // Without its protection it gets a whole grace.
        assert!(matches!(decided(&idle(), Some(&told), 50_000), Verdict::Warn(w) if w.park_at == at(50_300)));
    }

    #[test]
    fn the_strongest_reason_counts() {
        let spent = Decimal::from(1000);
        let verdict = decide(&policy(), &idle(), spent, None, at(200_000));
        assert!(matches!(verdict, Verdict::Warn(w) if w.reason == Reason::Budget));
        assert!(matches!(decided(&idle(), None, 100_000), Verdict::Warn(w) if w.reason == Reason::Lifetime));
        assert!(matches!(decided(&idle(), None, 99_999), Verdict::Warn(w) if w.reason == Reason::Idle));
        assert_eq!(decide(&ParkPolicy::default(), &idle(), spent, None, at(1 << 30)), Verdict::Leave);
    }

    #[test]
    fn the_budgets_marks() {
        let mark = |spent: &str| policy().budget_mark(spent.parse().unwrap());
        let marks = ["0", "499.99", "500", "799.9", "800", "999.999", "1000", "5000"].map(mark);
        let want = [None, None, Some(50), Some(50), Some(80), Some(80), Some(100), Some(100)];
        assert_eq!(marks, want);
        assert_eq!(ParkPolicy::default().budget_mark(Decimal::from(9)), None);
    }

    #[test]
    fn what_the_platform_does_not_allow_is_refused() {
        let bounds = PolicyBounds::default();
        assert!(policy().check(&bounds).is_ok() && ParkPolicy::default().check(&bounds).is_ok());
        for (bad, words) in [
            (ParkPolicy { lifetime_seconds: Some(10), ..policy() }, "lifetime_seconds"),
            (ParkPolicy { budget_per_month: Some(Decimal::ZERO), ..policy() }, "budget_per_month"),
            (ParkPolicy { budget_per_month: Some(Decimal::MAX), ..policy() }, "budget_per_month"),
            (ParkPolicy { grace_seconds: Some(1), ..policy() }, "grace_seconds"),
        ] {
            assert!(bad.check(&bounds).unwrap_err().contains(words), "{bad:?}");
        }
    }

    proptest! {
        /// Nothing is parked without a warning whose grace is over, nor while it is protected, kept or busy.
        #[test]
        fn parked_only_after_a_warning(
            now in 0i64..1_000_000, warned in proptest::option::of(0i64..1_000_000), at_rest: bool, protected: bool,
            told_protected: bool, keep in proptest::option::of(0i64..1_000_000), is_idle: bool, spent in 0i64..2000,
        ) {
            let standing = warned.map(|w| Warning { protected: told_protected, ..warning(Reason::Idle, w) });
            let candidate = Candidate {
                at_rest, protected, keep_until: keep.map(at), idle_since: is_idle.then(|| at(0)), ready_since: Some(at(0)),
            };
            let verdict = decide(&policy(), &candidate, Decimal::from(spent), standing.as_ref(), at(now));
            if let Verdict::Park(warning) = verdict {
                prop_assert!(standing == Some(warning) && now >= warning.park_at.as_second());
                prop_assert!(at_rest && !protected && is_idle && keep.is_none_or(|k| k <= now));
            }
        }
    }
}
