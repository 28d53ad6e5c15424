//! What the store's rules stand on: records with revisions, ordered indexes, and one atomic commit
//! that applies only when every record still has the revision that was read.
//!
//! Two adapters hold it: [`redis::Redis`] and [`embedded::Embedded`]. Both keep the same promises, which
//! the `contract` beside this file checks on both.

#[cfg(test)]
mod contract;
pub(crate) mod embedded;
pub(crate) mod redis;
pub(crate) mod tx;

use crate::StoreError;
use jiff::Timestamp;
use std::time::Duration;

/// The revision of a record; 0 when there is none. Revisions of one store never repeat, so a record
/// that was deleted and made anew cannot be mistaken for the old one.
pub(crate) type Revision = u64;

/// What a read found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The store's clock.
    pub(crate) now: Timestamp,
    /// The revision and the text of each record asked for, in order.
    pub(crate) records: Vec<(Revision, Option<String>)>,
}

/// What a commit changes, all of it or nothing.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Records that must still have these revisions.
    pub(crate) checks: Vec<(String, Revision)>,
    /// Records to write, with the time they live where that is limited.
    pub(crate) puts: Vec<(String, String, Option<Duration>)>,
    /// Records to delete.
    pub(crate) deletes: Vec<String>,
    /// Index entries to add or move: index, member, score.
    pub(crate) adds: Vec<(String, String, i64)>,
    /// Index entries to move, where they are still there: index, member, score.
    pub(crate) moves: Vec<(String, String, i64)>,
    /// Index entries to remove: index, member.
    pub(crate) removes: Vec<(String, String)>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.puts.is_empty()
            && self.deletes.is_empty()
            && self.adds.is_empty()
            && self.moves.is_empty()
            && self.removes.is_empty()
    }
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// One of the two adapters.
#[derive(Debug, Clone)]
pub(crate) enum Db {
    Redis(redis::Redis),
    Embedded(embedded::Embedded),
}

impl Db {
    /// Reads records and the clock in one step. Idempotent.
    pub(crate) async fn read(&self, keys: Vec<String>) -> Result<Found, StoreError> {
        match self {
            Self::Redis(db) => db.read(keys).await,
            Self::Embedded(db) => db.read(keys).await,
        }
    }

    /// Applies `changes` if every check holds, and says whether it did. Atomic. After an error it may have
    /// been applied or not: whoever tries again reads again first, and so sees which.
    pub(crate) async fn commit(&self, changes: Changes) -> Result<bool, StoreError> {
        match self {
            Self::Redis(db) => db.commit(changes).await,
            Self::Embedded(db) => db.commit(changes).await,
        }
    }

    /// Members of an index in the order of their bytes, after (not with) `after`. Every entry of an index that is
    /// scanned has the score 0: Redis orders by score first. Idempotent.
    pub(crate) async fn scan(
        &self,
        index: &str,
        after: Option<&str>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Redis(db) => db.scan(index, after, order, limit).await,
            Self::Embedded(db) => db.scan(index, after, order, limit).await,
        }
    }

    /// Members of an index whose score is at most the store's clock in milliseconds, lowest first.
    pub(crate) async fn due(&self, index: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Redis(db) => db.due(index, limit).await,
            Self::Embedded(db) => db.due(index, limit).await,
        }
    }

    /// Members of an index whose score is at least `score`, lowest first. Idempotent.
    pub(crate) async fn since(
        &self,
        index: &str,
        score: i64,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Redis(db) => db.since(index, score, limit).await,
            Self::Embedded(db) => db.since(index, score, limit).await,
        }
    }

    /// How many members each of these indexes has, in order. Idempotent.
    pub(crate) async fn count(&self, indexes: &[String]) -> Result<Vec<u64>, StoreError> {
        match self {
            Self::Redis(db) => db.count(indexes).await,
            Self::Embedded(db) => db.count(indexes.to_vec()).await,
        }
    }

    /// Whether the order of everything comes from whoever holds the clock.
    pub(crate) fn is_held(&self) -> bool {
        match self {
            Self::Redis(_) => false,
            Self::Embedded(db) => db.is_held(),
        }
    }
}
