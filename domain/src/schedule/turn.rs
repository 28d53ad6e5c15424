//! A schedule and the clock: what is next, and what a moment means.

use super::{Missed, Schedule};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A run that is later than this was missed: nobody kept time.
pub const LATE: SignedDuration = SignedDuration::from_secs(60);
/// Missed runs that are counted; more are "at least".
pub const MISSED_COUNTED_MAX: u32 = 1000;

/// Where a schedule stands in time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Clock {
    /// The next planned time; none while it is switched off. Together with the schedule's id it names the run.
    pub planned_at: Option<Timestamp>,
    /// To when that one run was postponed.
    pub postponed_to: Option<Timestamp>,
    /// Whether that one run is skipped.
    pub skip_next: bool,
}

impl Clock {
    /// When there is something to do.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.postponed_to.or(self.planned_at)
    }
}

/// What a moment means for a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It runs.
    Run {
        /// The planned time that names the run.
        planned_at: Timestamp,
        /// Runs before it that were missed.
        missed: u32,
    },
    /// Its owner wanted this one left out.
    Skipped {
        /// The planned time.
        planned_at: Timestamp,
    },
    /// Its time went by while nobody kept time, and it does not want to be late.
    Missed {
        /// The planned time of the last one that was missed.
        planned_at: Timestamp,
        /// How many were missed, this one included.
        missed: u32,
    },
}

/// Why a run cannot be skipped or postponed so. A sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchTurn {
    /// It is switched off.
    #[error("the schedule is switched off: it has no next run")]
    Off,
    /// The time is not after the planned one.
    #[error("the next run is planned for {0}: it can only be postponed to a later time")]
    NotLater(Timestamp),
    /// The time is not before the run after.
    #[error("the run after it is planned for {0}: skip this one instead")]
    NotBefore(Timestamp),
}

impl Schedule {
    /// Takes what is due at `now`, and moves on to what is next. None when nothing is due. Runs whose times have all
    /// gone by are one run: the last.
    pub fn turn(&mut self, now: Timestamp) -> Option<Turn> {
        let next_at = self.clock.next_at().filter(|at| self.enabled && *at <= now)?;
        let planned_at = self.clock.planned_at?;
        if self.clock.skip_next {
            self.move_past(planned_at);
            return Some(Turn::Skipped { planned_at });
        }
        let (last, missed) = self.last_due(planned_at, now);
        let was_due_at = if last == planned_at { next_at } else { last };
        self.move_past(now.max(last));
        let late = now.duration_since(was_due_at) > LATE;
        Some(if late && self.plan.missed == Missed::Skip {
            Turn::Missed { planned_at: last, missed: missed.saturating_add(1) }
        } else {
            Turn::Run { planned_at: last, missed }
        })
    }

    /// Leaves the next run out, or no longer.
    pub fn skip(&mut self, skip: bool) -> Result<(), NoSuchTurn> {
        self.clock.planned_at.ok_or(NoSuchTurn::Off)?;
        self.clock.skip_next = skip;
        Ok(())
    }

    /// Moves the next run, once, to a later time before the run after it; none ends that. The planned time still names
    /// the run.
    pub fn postpone(&mut self, until: Option<Timestamp>) -> Result<(), NoSuchTurn> {
        let planned_at = self.clock.planned_at.ok_or(NoSuchTurn::Off)?;
        if let Some(until) = until {
            if until <= planned_at {
                return Err(NoSuchTurn::NotLater(planned_at));
            }
            if let Some(after) = self.after(planned_at).filter(|after| until >= *after) {
                return Err(NoSuchTurn::NotBefore(after));
            }
        }
        self.clock.postponed_to = until;
        Ok(())
    }

    /// The next `count` runs there will be: those that are skipped are left out, a postponed one stands at its new time.
    pub fn upcoming(&self, count: usize) -> Vec<Timestamp> {
        let mut planned = self.clock.planned_at;
        let mut next = planned.filter(|_| !self.clock.skip_next).and(self.clock.next_at());
        let mut upcoming = Vec::with_capacity(count);
        while upcoming.len() < count {
            upcoming.extend(next);
            planned = planned.and_then(|at| self.after(at));
            next = planned;
            if planned.is_none() {
                break;
            }
        }
        upcoming
    }

    /// Begins anew from `now`.
    pub(super) fn rearm(&mut self, now: Timestamp) {
        self.clock = Clock::default();
        if self.enabled {
            self.move_past(now);
        }
    }

    fn move_past(&mut self, at: Timestamp) {
        self.clock = Clock { planned_at: self.after(at), ..Clock::default() };
        if self.clock.planned_at.is_none() {
            self.give_up(format!("its time zone {} is not known here any more", self.plan.timezone));
        }
    }

    fn after(&self, at: Timestamp) -> Option<Timestamp> {
        self.plan.cron.next_after(at, &self.plan.timezone.rules()?)
    }

    /// The last planned time from `first` up to `now`, and how many there are before it.
    fn last_due(&self, first: Timestamp, now: Timestamp) -> (Timestamp, u32) {
        let (mut last, mut before) = (first, 0);
        while let Some(next) = self.after(last).filter(|next| *next <= now) {
            last = next;
            before += 1;
            if before >= MISSED_COUNTED_MAX {
                return (self.last_up_to(now).unwrap_or(last), before);
            }
        }
        (last, before)
    }

    /// The last planned time up to `now`, found from its end, however many there are.
    fn last_up_to(&self, now: Timestamp) -> Option<Timestamp> {
        let mut back = SignedDuration::from_mins(1);
        loop {
            let from = now.checked_sub(back).ok()?;
            if let Some(mut last) = self.after(from).filter(|at| *at <= now) {
                while let Some(next) = self.after(last).filter(|at| *at <= now) {
                    last = next;
                }
                return Some(last);
            }
            back = back.checked_mul(2)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, schedule};
    use super::*;

    fn planned(schedule: &Schedule) -> String {
        schedule.next_at().map(|at| at.to_string()).unwrap_or_default()
    }

    #[test]
    fn it_runs_once_at_its_time_and_moves_on() {
        let mut s = schedule("0 20 * * *", "Asia/Taipei", "2026-01-01T00:00:00Z");
        assert_eq!(planned(&s), "2026-01-01T12:00:00Z");
        assert_eq!(s.turn(at("2026-01-01T11:59:59Z")), None);
        let run = Turn::Run { planned_at: at("2026-01-01T12:00:00Z"), missed: 0 };
        assert_eq!(s.turn(at("2026-01-01T12:00:00Z")), Some(run));
        assert_eq!(s.turn(at("2026-01-01T12:00:00Z")), None);
        assert_eq!(planned(&s), "2026-01-02T12:00:00Z");
    }

    #[test]
    fn missed_runs_are_one_run_or_none() {
        let mut s = schedule("0 20 * * *", "UTC", "2026-01-01T00:00:00Z");
        let mut skips = s.clone();
        skips.plan.missed = Missed::Skip;
        let (last, now) = (at("2026-01-03T20:00:00Z"), at("2026-01-04T08:00:00Z"));
        assert_eq!(s.turn(now), Some(Turn::Run { planned_at: last, missed: 2 }));
        assert_eq!(skips.turn(now), Some(Turn::Missed { planned_at: last, missed: 3 }));
        for s in [&mut s, &mut skips] {
            assert_eq!((s.turn(now), planned(s).as_str()), (None, "2026-01-04T20:00:00Z"));
        }
        // A moment late is not missed, whatever went by before.
        let now = at("2026-01-06T20:00:50Z");
        assert_eq!(skips.turn(now), Some(Turn::Run { planned_at: at("2026-01-06T20:00:00Z"), missed: 2 }));
    }

    #[test]
    fn a_year_of_missed_minutes_is_one_run_and_found_quickly() {
        let mut s = schedule("* * * * *", "UTC", "2026-01-01T00:00:00Z");
        let run = Turn::Run { planned_at: at("2027-01-01T00:00:00Z"), missed: MISSED_COUNTED_MAX };
        assert_eq!(s.turn(at("2027-01-01T00:00:30Z")), Some(run));
        let mut s = schedule("*/2 3 * * *", "UTC", "2026-01-01T00:00:00Z");
        let run = Turn::Run { planned_at: at("2026-12-31T03:58:00Z"), missed: MISSED_COUNTED_MAX };
        assert_eq!(s.turn(at("2027-01-01T00:00:30Z")), Some(run));
    }

    #[test]
    fn one_run_is_skipped_and_the_next_is_not() {
        let mut s = schedule("0 20 * * *", "UTC", "2026-01-01T00:00:00Z");
        s.skip(true).unwrap();
        assert_eq!(planned(&s), "2026-01-01T20:00:00Z");
        assert_eq!(s.upcoming(2), [at("2026-01-02T20:00:00Z"), at("2026-01-03T20:00:00Z")]);
        let skipped = Turn::Skipped { planned_at: at("2026-01-01T20:00:00Z") };
        assert_eq!(s.turn(at("2026-01-01T20:00:01Z")), Some(skipped));
        assert!(!s.clock.skip_next);
        let run = Turn::Run { planned_at: at("2026-01-02T20:00:00Z"), missed: 0 };
        assert_eq!(s.turn(at("2026-01-02T20:00:00Z")), Some(run));
        // Thought better of.
        s.skip(true).unwrap();
        s.skip(false).unwrap();
        assert!(matches!(s.turn(at("2026-01-03T20:00:00Z")), Some(Turn::Run { .. })));
    }

    #[test]
    fn one_run_is_postponed_within_its_bounds() {
        let mut s = schedule("0 20 * * *", "UTC", "2026-01-01T00:00:00Z");
        let later = at("2026-01-01T23:30:00Z");
        assert_eq!(
            s.postpone(Some(at("2026-01-01T20:00:00Z"))),
            Err(NoSuchTurn::NotLater(at("2026-01-01T20:00:00Z")))
        );
        assert_eq!(
            s.postpone(Some(at("2026-01-02T20:00:00Z"))),
            Err(NoSuchTurn::NotBefore(at("2026-01-02T20:00:00Z")))
        );
        s.postpone(Some(later)).unwrap();
        assert_eq!(s.upcoming(2), [later, at("2026-01-02T20:00:00Z")]);
        assert_eq!(s.turn(at("2026-01-01T23:29:59Z")), None);
        let run = Turn::Run { planned_at: at("2026-01-01T20:00:00Z"), missed: 0 };
        assert_eq!(s.turn(later), Some(run));
        assert_eq!(planned(&s), "2026-01-02T20:00:00Z");
    }

    #[test]
    fn another_time_moves_the_next_run_at_once() {
        let now = at("2026-01-01T10:00:00Z");
        let mut s = schedule("0 20 * * *", "UTC", "2026-01-01T00:00:00Z");
        s.skip(true).unwrap();
        let mut plan = s.plan.clone();
        plan.description = "another".into();
        s.replan(plan.clone(), now);
        assert!(s.clock.skip_next, "what does not move the run leaves it as it is");
        plan.cron = "30 11 * * *".parse().unwrap();
        s.replan(plan.clone(), now);
        assert_eq!((planned(&s).as_str(), s.clock.skip_next), ("2026-01-01T11:30:00Z", false));
        plan.timezone = "Asia/Taipei".parse().unwrap();
        s.replan(plan, now);
        assert_eq!(planned(&s), "2026-01-02T03:30:00Z");
    }

    #[test]
    fn a_pause_misses_nothing_and_has_no_next_run() {
        let mut s = schedule("0 20 * * *", "UTC", "2026-01-01T00:00:00Z");
        s.enable(false, at("2026-01-01T10:00:00Z"));
        assert_eq!((s.next_at(), s.turn(at("2026-01-05T00:00:00Z"))), (None, None));
        assert_eq!((s.skip(true), s.postpone(None)), (Err(NoSuchTurn::Off), Err(NoSuchTurn::Off)));
        assert!(s.upcoming(3).is_empty());
        s.enable(true, at("2026-01-05T00:00:00Z"));
        assert_eq!(planned(&s), "2026-01-05T20:00:00Z");
    }
}
