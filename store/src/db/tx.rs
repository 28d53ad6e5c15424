//! One attempt at an operation: what it read, and what it wants to change.

use super::{Changes, Db, Order, Revision};
use crate::StoreError;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::time::Duration;

/// Reads records as they are needed, collects changes, and commits them on the condition that nothing that
/// was read has changed. The rules of an operation see a consistent world or are run again.
pub(crate) struct Tx<'a> {
    db: &'a Db,
    now: Option<Timestamp>,
    seen: BTreeMap<String, (Revision, Option<String>)>,
    puts: BTreeMap<String, (Option<String>, Option<Duration>)>,
    /// What becomes of index entries: the last word on each counts.
    entries: BTreeMap<(String, String), Entry>,
}

/// What becomes of an index entry.
enum Entry {
    /// It is added, or moved to this score.
    Set(i64),
    /// It is moved to this score if it is there when the commit comes.
    Move(i64),
    /// It is removed.
    Remove,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(db: &'a Db) -> Self {
        Self { db, now: None, seen: BTreeMap::new(), puts: BTreeMap::new(), entries: BTreeMap::new() }
    }

    /// The store's clock at the first read; costs a step of its own only when nothing was read before.
    pub(crate) async fn now(&mut self) -> Result<Timestamp, StoreError> {
        if let Some(now) = self.now {
            return Ok(now);
        }
        let now = self.db.read(Vec::new()).await?.now;
        Ok(*self.now.insert(now))
    }

    /// The store's clock at the first read; before that, the beginning of time.
    pub(crate) fn read_at(&self) -> Timestamp {
        self.now.unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Reads one record, as this operation has left it.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, StoreError> {
        self.load(&[key.to_owned()]).await?;
        self.peek(key)
    }

    /// Reads many records in one step; those that are not there are left out.
    pub(crate) async fn get_many<T: DeserializeOwned>(
        &mut self,
        keys: &[String],
    ) -> Result<Vec<T>, StoreError> {
        self.load(keys).await?;
        keys.iter().filter_map(|key| self.peek(key).transpose()).collect()
    }

    /// Writes a record.
    pub(crate) fn put<T: Serialize>(&mut self, key: &str, value: &T) -> Result<(), StoreError> {
        self.put_for(key, value, None)
    }

    /// Writes a record that lives for a limited time.
    pub(crate) fn put_for<T: Serialize>(
        &mut self,
        key: &str,
        value: &T,
        ttl: Option<Duration>,
    ) -> Result<(), StoreError> {
        let text = serde_json::to_string(value).map_err(|e| corrupt(key, &e))?;
        self.puts.insert(key.to_owned(), (Some(text), ttl));
        Ok(())
    }

    /// Deletes a record.
    pub(crate) fn delete(&mut self, key: &str) {
        self.puts.insert(key.to_owned(), (None, None));
    }

    /// Adds an index entry, or moves it to another score.
    pub(crate) fn add(&mut self, index: impl Into<String>, member: impl Into<String>, score: i64) {
        self.entries.insert((index.into(), member.into()), Entry::Set(score));
    }

    /// Moves an entry that another record's owner keeps, unless it is gone by then.
    pub(crate) fn shift(&mut self, index: impl Into<String>, member: impl Into<String>, score: i64) {
        let entry = self.entries.entry((index.into(), member.into())).or_insert(Entry::Move(score));
        match entry {
            Entry::Set(at) | Entry::Move(at) => *at = score,
            Entry::Remove => {}
        }
    }

    /// Removes an index entry.
    pub(crate) fn remove(&mut self, index: impl Into<String>, member: impl Into<String>) {
        self.entries.insert((index.into(), member.into()), Entry::Remove);
    }

    /// Members of an index as they are now; not part of what the commit checks.
    pub(crate) async fn scan(&self, index: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        self.db.scan(index, None, Order::Ascending, limit).await
    }

    /// Forgets what was to be written: an operation that is refused leaves nothing.
    pub(crate) fn discard(&mut self) {
        self.puts.clear();
        self.entries.clear();
    }

    /// Commits, and says whether it held. An operation that changes nothing always holds.
    pub(crate) async fn commit(self) -> Result<bool, StoreError> {
        let mut changes = Changes::default();
        for ((index, member), entry) in self.entries {
            match entry {
                Entry::Set(score) => changes.adds.push((index, member, score)),
                Entry::Move(score) => changes.moves.push((index, member, score)),
                Entry::Remove => changes.removes.push((index, member)),
            }
        }
        for (key, (text, ttl)) in self.puts {
            match text {
                Some(text) => changes.puts.push((key, text, ttl)),
                None => changes.deletes.push(key),
            }
        }
        if changes.is_empty() {
            return Ok(true);
        }
        changes.checks = self.seen.into_iter().map(|(key, (revision, _))| (key, revision)).collect();
        self.db.commit(changes).await
    }

    /// Reads records in one step that will be asked for one by one.
    pub(crate) async fn load(&mut self, keys: &[String]) -> Result<(), StoreError> {
        let unseen: Vec<String> = keys
            .iter()
            .filter(|k| !self.seen.contains_key(*k) && !self.puts.contains_key(*k))
            .cloned()
            .collect();
        if unseen.is_empty() {
            return Ok(());
        }
        let found = self.db.read(unseen.clone()).await?;
        self.now.get_or_insert(found.now);
        self.seen.extend(unseen.into_iter().zip(found.records));
        Ok(())
    }

    fn peek<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let text = match self.puts.get(key) {
            Some((text, _)) => text.as_deref(),
            None => self.seen.get(key).and_then(|(_, text)| text.as_deref()),
        };
        let parse = |text| serde_json::from_str(text).map_err(|e| corrupt(key, &e));
        text.map(parse).transpose()
    }
}

/// Names the record and the place, never its content: a launch holds secrets, and serde's own words quote values.
fn corrupt(key: &str, error: &serde_json::Error) -> StoreError {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a field is missing or has another type",
        _ => "it is not JSON",
    };
    StoreError::Corrupt(format!("{key}: {what}, near column {}", error.column()))
}
