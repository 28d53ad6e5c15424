//! The embedded adapter: one SQLite file, write-ahead log, every commit flushed to disk.

use super::{Changes, Found, Order};
use crate::StoreError;
use crate::clock::Clock;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

const SCHEMA: &str = "
create table if not exists record (
    key text primary key, revision integer not null, body text not null, expires_ms integer
) strict, without rowid;
create index if not exists record_expires on record (expires_ms) where expires_ms is not null;
create table if not exists entry (
    name text not null, member text not null, score integer not null, primary key (name, member)
) strict, without rowid;
create index if not exists entry_due on entry (name, score, member);
create table if not exists revision (only integer primary key check (only = 1), last integer not null) strict;
insert or ignore into revision values (1, 0);
";

/// One SQLite file, open in this process alone.
#[derive(Debug, Clone)]
pub(crate) struct Embedded {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: Mutex<Connection>,
    /// Commits that wait for the writer: whoever gets it takes them all, and flushes once for all.
    waiting: Mutex<Vec<Waiting>>,
    reader: Mutex<Connection>,
    clock: Clock,
    /// Held as long as the store is open: a second process must not have its own clock and its own wake-ups.
    _lock: File,
}

#[derive(Debug)]
struct Waiting {
    changes: Changes,
    answer: oneshot::Sender<Result<bool, StoreError>>,
}

impl Embedded {
    /// Opens or makes the file; refuses when another process has it open.
    pub(crate) fn open(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let settings = |what: &str, e: &dyn std::fmt::Display| {
            StoreError::Settings(format!("{what} {}: {e}", path.display()))
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|e| settings("cannot make the folder of the store", &e))?;
        }
        let lock = private(&path.with_extension("lock"))
            .map_err(|e| settings("cannot open the lock of the store", &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(path.display().to_string())),
            Err(TryLockError::Error(e)) => return Err(settings("cannot lock the store", &e)),
        }
        // SQLite gives its log the permissions of the file itself.
        private(path).map_err(|e| settings("cannot make the store", &e))?;
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // Nothing that a host plays through is worth a flush.
            let flush = if clock.is_held() { "OFF" } else { "FULL" };
            connection.pragma_update(None, "synchronous", flush)?;
            Ok(connection)
        };
        let writer = open().map_err(|e| settings("cannot open the store", &e))?;
        writer.execute_batch(SCHEMA).map_err(|e| settings("cannot read the store", &e))?;
        let reader = open().map_err(|e| settings("cannot open the store", &e))?;
        let inner = Inner {
            writer: Mutex::new(writer),
            waiting: Mutex::default(),
            reader: Mutex::new(reader),
            clock,
            _lock: lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) async fn read(&self, keys: Vec<String>) -> Result<Found, StoreError> {
        let now = self.now();
        if keys.is_empty() {
            return Ok(Found { now, records: Vec::new() });
        }
        let records = self
            .with_reader(move |connection| {
                let now_ms = now.as_millisecond();
                let transaction = connection.transaction()?;
                let mut statement = transaction.prepare_cached(
                    "select revision, body from record where key = ?1 and (expires_ms is null or expires_ms > ?2)",
                )?;
                keys.iter()
                    .map(|key| {
                        let found = statement.query_row(params![key, now_ms], |row| {
                            Ok((row.get::<_, i64>(0)? as u64, Some(row.get::<_, String>(1)?)))
                        });
                        Ok(found.optional()?.unwrap_or((0, None)))
                    })
                    .collect()
            })
            .await?;
        Ok(Found { now, records })
    }

    pub(crate) async fn commit(&self, changes: Changes) -> Result<bool, StoreError> {
        let (answer, applied) = oneshot::channel();
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { changes, answer });
        self.carry_out(Inner::write_waiting).await?;
        applied.await.map_err(|_| ended())?
    }

    pub(crate) async fn scan(
        &self,
        index: &str,
        after: Option<&str>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let (index, after) = (index.to_owned(), after.map(str::to_owned));
        self.with_reader(move |connection| {
            let sql = match order {
                Order::Ascending => {
                    "select member from entry where name = ?1 and (?2 is null or member > ?2) order by member limit ?3"
                }
                Order::Descending => {
                    "select member from entry where name = ?1 and (?2 is null or member < ?2) order by member desc limit ?3"
                }
            };
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_map(params![index, after, bound(limit)], |row| row.get(0))?.collect()
        })
        .await
    }

    pub(crate) async fn due(&self, index: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        let (index, now_ms) = (index.to_owned(), self.now().as_millisecond());
        self.with_reader(move |connection| {
            let mut statement = connection.prepare_cached(
                "select member from entry where name = ?1 and score <= ?2 order by score, member limit ?3",
            )?;
            statement.query_map(params![index, now_ms, bound(limit)], |row| row.get(0))?.collect()
        })
        .await
    }

    pub(crate) async fn since(
        &self,
        index: &str,
        score: i64,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let index = index.to_owned();
        self.with_reader(move |connection| {
            let mut statement = connection.prepare_cached(
                "select member from entry where name = ?1 and score >= ?2 order by score, member limit ?3",
            )?;
            statement.query_map(params![index, score, bound(limit)], |row| row.get(0))?.collect()
        })
        .await
    }

    pub(crate) async fn count(&self, indexes: Vec<String>) -> Result<Vec<u64>, StoreError> {
        self.with_reader(move |connection| {
            let mut statement = connection.prepare_cached("select count(*) from entry where name = ?1")?;
            let mut count =
                |index| statement.query_row([index], |row| row.get::<_, i64>(0)).map(|n| n as u64);
            indexes.iter().map(&mut count).collect()
        })
        .await
    }

    /// Whether the host holds the clock, and so everything has its order from the host alone.
    pub(crate) fn is_held(&self) -> bool {
        self.inner.clock.is_held()
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    async fn with_reader<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let read = self.carry_out(move |inner| {
            // A panic inside a transaction rolled it back when the transaction was dropped: the connection is sound.
            let mut connection = inner.reader.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection)
        });
        read.await?.map_err(|e| broken(&e))
    }

    /// Does what may block off the runtime's threads. Where the host holds the clock it is done here and now, after whoever
    /// else is ready has had a turn: no thread decides about the order.
    async fn carry_out<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.is_held() {
            tokio::task::yield_now().await;
            return Ok(work(&self.inner));
        }
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| ended())
    }
}

impl Inner {
    /// Commits all that waits for the writer, if somebody who had it before has not taken it along.
    fn write_waiting(&self) {
        let mut connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if batch.is_empty() {
            return;
        }
        let changes: Vec<&Changes> = batch.iter().map(|waiting| &waiting.changes).collect();
        let now_ms = self.clock.now().as_millisecond();
        let outcome = write(&mut connection, &changes, now_ms).map_err(|e| broken(&e));
        for (i, waiting) in batch.into_iter().enumerate() {
            let applied = outcome.as_ref().map(|applied| applied[i]).map_err(Clone::clone);
            // Nobody is there to hear it when the caller has given up.
            let _unheard = waiting.answer.send(applied);
        }
    }
}

fn broken(error: &rusqlite::Error) -> StoreError {
    StoreError::Unavailable(format!("the store's file cannot be used: {error}"))
}

fn ended() -> StoreError {
    StoreError::Unavailable("the store's thread ended".into())
}

/// Applies one set of changes after the other, each if its checks hold then, and flushes once. An error undoes all.
fn write(connection: &mut Connection, batch: &[&Changes], now_ms: i64) -> rusqlite::Result<Vec<bool>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut applied = Vec::with_capacity(batch.len());
    for changes in batch {
        let holds = checks_hold(&transaction, changes, now_ms)?;
        if holds {
            apply(&transaction, changes, now_ms)?;
        }
        applied.push(holds);
    }
    transaction.commit()?;
    Ok(applied)
}

fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Opens or makes a file that only this user may read: launches hold secrets of their owners.
fn private(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn checks_hold(connection: &Connection, changes: &Changes, now_ms: i64) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(
        "select revision from record where key = ?1 and (expires_ms is null or expires_ms > ?2)",
    )?;
    for (key, expected) in &changes.checks {
        let revision: Option<i64> = statement.query_row(params![key, now_ms], |row| row.get(0)).optional()?;
        if revision.unwrap_or(0) as u64 != *expected {
            return Ok(false);
        }
    }
    Ok(true)
}

fn apply(connection: &Connection, changes: &Changes, now_ms: i64) -> rusqlite::Result<()> {
    let mut revise = connection.prepare_cached("update revision set last = last + 1 returning last")?;
    let mut put = connection.prepare_cached("insert or replace into record values (?1, ?2, ?3, ?4)")?;
    for (key, body, ttl) in &changes.puts {
        let revision: i64 = revise.query_row([], |row| row.get(0))?;
        let expires_ms = ttl.map(|t| now_ms.saturating_add(t.as_millis() as i64));
        put.execute(params![key, revision, body, expires_ms])?;
    }
    let mut delete = connection.prepare_cached("delete from record where key = ?1")?;
    for key in &changes.deletes {
        delete.execute([key])?;
    }
    let mut add = connection.prepare_cached("insert or replace into entry values (?1, ?2, ?3)")?;
    for (index, member, score) in &changes.adds {
        add.execute(params![index, member, score])?;
    }
    let mut set = connection.prepare_cached("update entry set score = ?3 where name = ?1 and member = ?2")?;
    for (index, member, score) in &changes.moves {
        set.execute(params![index, member, score])?;
    }
    let mut remove = connection.prepare_cached("delete from entry where name = ?1 and member = ?2")?;
    for (index, member) in &changes.removes {
        remove.execute(params![index, member])?;
    }
    // What has expired is never read; a few go with each commit, so that the file does not grow.
    connection
        .prepare_cached(
            "delete from record where key in (select key from record where expires_ms <= ?1 limit 10)",
        )?
        .execute([now_ms])?;
    Ok(())
}

#[cfg(test)]
mod tests;
