//! What every adapter keeps: one function per clause, all of them in [`CLAUSES`].
//!
//! A clause gets a queue of its own that nobody has used before, and fails with a sentence. Nothing in
//! here knows which adapter it runs on.

pub mod given;
mod settling;
mod subscribing;
mod waking;

use crate::Queue;
use anyhow::{Context, ensure};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::time::Duration;
use tokio::time::timeout;

/// The longest a clause may take.
const CLAUSE_LIMIT: Duration = Duration::from_mins(1);

/// One promise of the port.
#[derive(Clone, Copy)]
pub struct Clause {
    /// The promise, in words.
    pub name: &'static str,
    check: fn(Queue) -> LocalBoxFuture<'static, anyhow::Result<()>>,
}

macro_rules! clauses {
    ($($module:ident :: $clause:ident),* $(,)?) => {
        [$(Clause {
            name: stringify!($clause),
            check: |queue| async move { $module::$clause(&queue).await }.boxed_local(),
        }),*]
    };
}

/// Every promise of the port.
pub const CLAUSES: [Clause; 18] = clauses![
    waking::every_wake_is_delivered_once_when_all_goes_well,
    waking::a_wake_without_a_consumer_is_held,
    waking::a_wake_to_an_undeclared_target_is_unroutable,
    waking::declaring_twice_changes_nothing,
    waking::surveys_and_jobs_of_a_node_do_not_wait_for_each_other,
    waking::two_hundred_wakes_from_eight_tasks_all_arrive,
    settling::what_a_lost_consumer_held_is_delivered_again,
    settling::what_is_given_back_is_delivered_again,
    settling::what_is_dropped_unsettled_is_delivered_again,
    settling::what_is_given_back_too_often_becomes_a_dead_letter,
    subscribing::subscribing_declares,
    subscribing::one_subscription_serves_many_targets,
    subscribing::two_consumers_share,
    subscribing::no_more_than_prefetch_is_out,
    subscribing::a_receive_that_is_given_up_loses_nothing,
    subscribing::cancel_ends_receiving_and_frees_what_waits,
    subscribing::what_is_in_hand_at_a_cancel_may_still_be_settled,
    subscribing::close_ends_everything,
];

/// Runs every clause, each on a queue that `fresh` makes for it, and closes the queue afterwards.
pub async fn check_all(fresh: impl Fn(Clause) -> Queue) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for clause in CLAUSES {
        let queue = fresh(clause);
        let outcome = timeout(CLAUSE_LIMIT, (clause.check)(queue.clone())).await;
        let outcome = outcome.context("takes too long").and_then(|outcome| outcome);
        if let Err(error) = outcome.and(given::close_in_time(&queue).await) {
            failures.push(format!("{}: {error:#}", clause.name));
        }
    }
    ensure!(failures.is_empty(), "{} clauses are broken:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}
