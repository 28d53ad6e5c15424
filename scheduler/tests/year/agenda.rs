//! What happens when: the clock jumps from one event to the next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A user does something.
    User(usize),
    /// A user thinks again of what they asked for last.
    Regret(usize),
    /// A worker looks at its node and reports.
    Look(usize),
    /// A worker starts on a node that has none.
    Start(usize),
    /// An attempt takes its next step.
    Step(u64),
    /// A schedule is due, by the plan that it had so many changes ago.
    Planned(usize, u32),
    /// Schedulers look for jobs and schedules that are due.
    Pass,
    /// Schedulers apply policies.
    Policies,
    /// Schedulers remove what is old.
    History,
    /// Somebody who runs the platform or a project changes something.
    Admin,
    /// The bill of a month is looked at.
    Month,
}

/// Events in the order of their time; at the same time, of their making.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    events: BinaryHeap<Reverse<(i64, u64, Event)>>,
    made: u64,
    pass_at: Option<i64>,
}

impl Agenda {
    pub(crate) fn add(&mut self, at_ms: i64, event: Event) {
        if event == Event::Pass {
            // One is enough: the soonest.
            if self.pass_at.is_some_and(|at| at <= at_ms) {
                return;
            }
            self.pass_at = Some(at_ms);
        }
        self.made += 1;
        self.events.push(Reverse((at_ms, self.made, event)));
    }

    /// The next thing that happens before `end`.
    pub(crate) fn next(&mut self, end: i64) -> Option<(i64, Event)> {
        loop {
            self.events.peek().filter(|Reverse((at_ms, ..))| *at_ms < end)?;
            let Reverse((at_ms, _, event)) = self.events.pop()?;
            if event != Event::Pass {
                return Some((at_ms, event));
            }
            // A later one that a sooner one stood in for is left out.
            if self.pass_at == Some(at_ms) {
                self.pass_at = None;
                return Some((at_ms, event));
            }
        }
    }
}
