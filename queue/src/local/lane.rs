//! The state of the queue in this process: who waits for what, and who holds what. Plain data; the
//! adapter puts a lock around it.

use crate::{DELIVERY_LIMIT, DeadLetter, QueueError, Target, message};
use mothball_domain::id::JobId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Wake-ups that one target's queue holds, delivered or not; one more is refused.
const LANE_LEN_MAX: usize = 10_000;
/// Dead letters kept; the oldest go first.
const DEAD_LEN_MAX: usize = 1_000;

/// One subscription.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    pub(crate) id: u64,
    pub(crate) targets: Vec<Target>,
    /// Unsettled wake-ups it may hold of each target.
    pub(crate) prefetch: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    job: JobId,
    deliveries: u32,
}

/// What is out for delivery.
#[derive(Debug)]
struct Out {
    seat: u64,
    entry: Entry,
}

#[derive(Debug, Default)]
struct Lane {
    ready: VecDeque<Entry>,
    out: BTreeMap<u64, Out>,
}

/// What a subscription was handed.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) target: Target,
    pub(crate) tag: u64,
    pub(crate) job: JobId,
    pub(crate) redelivered: bool,
}

/// Every target's queue, the subscriptions, and the dead letters.
#[derive(Debug, Default)]
pub(crate) struct Board {
    lanes: BTreeMap<Target, Lane>,
    seats: BTreeSet<u64>,
    dead: VecDeque<DeadLetter>,
    counter: u64,
}

impl Board {
    pub(crate) fn declare(&mut self, target: &Target) {
        self.lanes.entry(target.clone()).or_default();
    }

    pub(crate) fn push(&mut self, target: &Target, job: JobId) -> Result<(), QueueError> {
        let lane =
            self.lanes.get_mut(target).ok_or_else(|| QueueError::Unroutable { target: target.clone() })?;
        if lane.ready.len() + lane.out.len() >= LANE_LEN_MAX {
            return Err(QueueError::Refused { target: target.clone() });
        }
        lane.ready.push_back(Entry { job, deliveries: 0 });
        Ok(())
    }

    pub(crate) fn sit_down(&mut self) -> u64 {
        self.counter += 1;
        self.seats.insert(self.counter);
        self.counter
    }

    /// The subscription is gone: what it held goes to whoever is there.
    pub(crate) fn stand_up(&mut self, seat: u64) {
        self.seats.remove(&seat);
        let held: Vec<(Target, u64)> = (self.lanes.iter())
            .flat_map(|(target, lane)| {
                lane.out.iter().filter(|(_, out)| out.seat == seat).map(|(tag, _)| (target.clone(), *tag))
            })
            .collect();
        for (target, tag) in held {
            self.give_back(&target, tag);
        }
    }

    /// The next wake-up for a subscription, if there is one and it may hold one more.
    pub(crate) fn take(&mut self, seat: &Seat) -> Option<Handed> {
        for target in &seat.targets {
            let Some(lane) = self.lanes.get_mut(target) else { continue };
            if lane.out.values().filter(|out| out.seat == seat.id).count() >= seat.prefetch {
                continue;
            }
            if let Some(mut entry) = lane.ready.pop_front() {
                let redelivered = entry.deliveries > 0;
                entry.deliveries += 1;
                self.counter += 1;
                lane.out.insert(self.counter, Out { seat: seat.id, entry });
                return Some(Handed {
                    target: target.clone(),
                    tag: self.counter,
                    job: entry.job,
                    redelivered,
                });
            }
        }
        None
    }

    /// Whether it was still out; if not, somebody else has it or will have it.
    pub(crate) fn settle(&mut self, target: &Target, tag: u64) -> bool {
        self.lanes.get_mut(target).is_some_and(|lane| lane.out.remove(&tag).is_some())
    }

    /// Puts it back for delivery, or away if that was tried too often. Whether it was still out.
    pub(crate) fn give_back(&mut self, target: &Target, tag: u64) -> bool {
        let Some(lane) = self.lanes.get_mut(target) else { return false };
        let Some(Out { entry, .. }) = lane.out.remove(&tag) else { return false };
        if entry.deliveries <= DELIVERY_LIMIT {
            lane.ready.push_front(entry);
            return true;
        }
        if self.dead.len() >= DEAD_LEN_MAX {
            self.dead.pop_front();
        }
        self.dead.push_back(DeadLetter {
            reason: "delivery_limit".to_owned(),
            queue: target.key(),
            message_id: Some(entry.job.to_string()),
            body: DeadLetter::body_start(&message::encode(entry.job)),
        });
        true
    }

    pub(crate) fn seats(&self) -> usize {
        self.seats.len()
    }

    pub(crate) fn dead(&self) -> &VecDeque<DeadLetter> {
        &self.dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_refuses() {
        let mut board = Board::default();
        let job = JobId(uuid::Uuid::nil());
        board.declare(&Target::Any);
        for _ in 0..LANE_LEN_MAX {
            board.push(&Target::Any, job).unwrap();
        }
        assert_eq!(board.push(&Target::Any, job), Err(QueueError::Refused { target: Target::Any }));
    }
}
