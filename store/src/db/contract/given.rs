//! What the clauses are made of.

use crate::db::{Changes, Db, Order, Revision};
use anyhow::Result;

/// A commit that checks and writes nothing yet.
pub(super) fn changes() -> Changes {
    Changes::default()
}

impl Changes {
    pub(super) fn check(mut self, key: &str, revision: Revision) -> Self {
        self.checks.push((key.to_owned(), revision));
        self
    }

    pub(super) fn put(mut self, key: &str, text: &str) -> Self {
        self.puts.push((key.to_owned(), text.to_owned(), None));
        self
    }

    pub(super) fn delete(mut self, key: &str) -> Self {
        self.deletes.push(key.to_owned());
        self
    }

    pub(super) fn add(mut self, index: &str, member: &str, score: i64) -> Self {
        self.adds.push((index.to_owned(), member.to_owned(), score));
        self
    }

    pub(super) fn shift(mut self, index: &str, member: &str, score: i64) -> Self {
        self.moves.push((index.to_owned(), member.to_owned(), score));
        self
    }

    pub(super) fn remove(mut self, index: &str, member: &str) -> Self {
        self.removes.push((index.to_owned(), member.to_owned()));
        self
    }
}

/// Revision and text of one record.
pub(super) async fn record(db: &Db, key: &str) -> Result<(Revision, Option<String>)> {
    let found = db.read(vec![key.to_owned()]).await?;
    Ok(found.records.into_iter().next().unwrap_or_default())
}

pub(super) async fn text(db: &Db, key: &str) -> Result<Option<String>> {
    Ok(record(db, key).await?.1)
}

pub(super) async fn members(db: &Db, index: &str, order: Order) -> Result<Vec<String>> {
    Ok(db.scan(index, None, order, 1000).await?)
}

/// The store's clock in milliseconds, moved.
pub(super) async fn clock_ms(db: &Db, moved_ms: i64) -> Result<i64> {
    Ok(db.read(Vec::new()).await?.now.as_millisecond() + moved_ms)
}
