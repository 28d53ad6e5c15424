//! The operations, one room for each subject. Each is written as a function of a [`Tx`](crate::db::tx::Tx) that decides,
//! and a method of [`Store`](crate::Store) that runs it until its commit holds.

pub(crate) mod adopted;
pub(crate) mod audit;
pub(crate) mod budget;
pub(crate) mod cancel;
pub(crate) mod claim;
pub(crate) mod containers;
pub(crate) mod costs;
pub(crate) mod due;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod jobs;
pub(crate) mod keeping;
pub(crate) mod need;
pub(crate) mod nodes;
pub(crate) mod notices;
pub(crate) mod park_policies;
pub(crate) mod people;
pub(crate) mod placement;
pub(crate) mod police;
pub(crate) mod purge;
pub(crate) mod records;
pub(crate) mod refusal;
pub(crate) mod retention;
pub(crate) mod schedules;
pub(crate) mod settle;
pub(crate) mod submit;
pub(crate) mod surveys;
pub(crate) mod undo;
pub(crate) mod usage;

use crate::db::{Db, Order};
use crate::{Store, StoreError};
use jiff::Timestamp;
use rand::RngExt;
use std::time::Duration;

/// `now` and a wait, as far as time goes: a setting that means "for ever" is no error.
pub(crate) fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// Times that an operation is decided anew because somebody changed what it read.
pub(crate) const ATTEMPTS_MAX: u32 = 40;
/// Times that it loses before it takes its turn with the other losers of this process, who would only make each other
/// lose: three hundred launches at once all lost forty times (tried).
pub(crate) const ATTEMPTS_FREE: u32 = 3;

/// A short random wait before the operation is decided anew, longer the more often it lost. Where a host holds the clock
/// no time passes, and nothing is left to chance.
pub(crate) async fn back_off(db: &Db, attempt: u32) {
    if db.is_held() {
        return tokio::task::yield_now().await;
    }
    let longest_us = 200u64 << attempt.min(8);
    let wait_us = rand::rng().random_range(0..longest_us);
    tokio::time::sleep(Duration::from_micros(wait_us)).await;
}

impl Store {
    /// The members of an index that make a page, and where the next page begins if there is one.
    pub(crate) async fn leaf(
        &self,
        index: &str,
        after: Option<&str>,
        order: Order,
        limit: usize,
    ) -> Result<(Vec<String>, Option<String>), StoreError> {
        let mut members = self.db.scan(index, after, order, limit.saturating_add(1)).await?;
        let more = members.len() > limit;
        members.truncate(limit);
        let next = members.last().filter(|_| more).cloned();
        Ok((members, next))
    }
}

/// Runs `$body`, which decides with the transaction `$tx`, until its commit holds.
macro_rules! transact {
    ($store:expr, |$tx:ident| $body:expr) => {{
        let mut attempt = 0;
        let mut turn = None;
        loop {
            let mut transaction = $crate::db::tx::Tx::new(&$store.db);
            let $tx = &mut transaction;
            let outcome = $body?;
            if transaction.commit().await? {
                break Ok(outcome);
            }
            attempt += 1;
            if attempt >= $crate::ops::ATTEMPTS_MAX {
                break Err($crate::StoreError::Contended(attempt));
            }
            if attempt >= $crate::ops::ATTEMPTS_FREE && turn.is_none() {
                turn = Some($store.turn.lock().await);
            } else {
                $crate::ops::back_off(&$store.db, attempt).await;
            }
        }
    }};
}
pub(crate) use transact;
