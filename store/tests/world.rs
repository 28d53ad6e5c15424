//! A store of its own for one test, on either adapter, and the words that tests are written in.

mod given;
mod sound;

pub(crate) use given::*;
pub(crate) use sound::Seen;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use mothball_domain::id::{JobId, ScheduleId};
use mothball_harness::redis::Redis;
use mothball_store::{RedisSettings, Store};
use std::path::PathBuf;
use std::sync::Arc;

/// The adapters that every suite runs on.
pub(crate) const ADAPTERS: [&str; 2] = ["redis", "embedded"];

/// What worlds live on: one Redis and one folder.
pub(crate) struct Ground {
    redis: Arc<Redis>,
    folder: tempfile::TempDir,
}

/// One store that nobody else uses, and a look behind it.
#[derive(Clone)]
pub(crate) struct World {
    /// The store.
    pub(crate) store: Store,
    behind: Behind,
}

#[derive(Clone)]
enum Behind {
    Redis(Arc<Redis>, String),
    Embedded(PathBuf),
}

impl Ground {
    pub(crate) async fn new() -> Result<Self> {
        Ok(Self { redis: Arc::new(Redis::start().await?), folder: tempfile::tempdir()? })
    }

    /// An empty store on this adapter; no other has this name.
    pub(crate) fn world(&self, adapter: &str, name: &str) -> Result<World> {
        if adapter == "redis" {
            let settings = RedisSettings {
                prefix: name.to_owned(),
                timeout: std::time::Duration::from_secs(20),
                ..RedisSettings::new(self.redis.url().into())
            };
            let behind = Behind::Redis(Arc::clone(&self.redis), name.to_owned());
            return Ok(World { store: Store::redis(settings)?, behind });
        }
        let path = self.folder.path().join(format!("{name}.db"));
        Ok(World { store: Store::embedded(&path)?, behind: Behind::Embedded(path) })
    }
}

impl World {
    /// Ends the time of limited records whose key begins so, as if it had passed.
    pub(crate) async fn expire(&self, key: &str) -> Result<()> {
        match &self.behind {
            Behind::Redis(redis, prefix) => {
                let found = redis.cli(&["--raw", "KEYS", &format!("{{{prefix}}}:r:{key}*")]).await?;
                for record in found.lines() {
                    ensure!(redis.cli(&["TTL", record]).await? != "-1", "{record} has no limit");
                    redis.cli(&["PEXPIRE", record, "0"]).await?;
                }
                ensure!(!found.is_empty(), "no record begins with {key}");
            }
            Behind::Embedded(path) => {
                let past = "update record set expires_ms = 1 where key glob ?1 and expires_ms is not null";
                let changed = rusqlite::Connection::open(path)?.execute(past, [format!("{key}*")])?;
                ensure!(changed > 0, "no limited record begins with {key}");
            }
        }
        Ok(())
    }

    /// The Redis that the store is in.
    pub(crate) fn redis(&self) -> Option<&Redis> {
        match &self.behind {
            Behind::Redis(redis, _) => Some(redis),
            Behind::Embedded(_) => None,
        }
    }

    /// Takes the ledger away, as if the store were of a version that had none.
    pub(crate) async fn forget_ledger(&self) -> Result<()> {
        match &self.behind {
            Behind::Redis(redis, prefix) => {
                for pattern in ["r:sheet:*", "r:used:*", "i:ledger*", "i:containers:gone"] {
                    let found = redis.cli(&["--raw", "KEYS", &format!("{{{prefix}}}:{pattern}")]).await?;
                    for key in found.lines().filter(|key| !key.is_empty()) {
                        redis.cli(&["DEL", key]).await?;
                    }
                }
            }
            Behind::Embedded(path) => {
                let connection = rusqlite::Connection::open(path)?;
                connection.execute_batch(
                    "delete from record where key glob 'sheet:*' or key glob 'used:*';
                     delete from entry where name glob 'ledger*' or name = 'containers:gone'",
                )?;
            }
        }
        Ok(())
    }

    /// Makes this the time that a schedule's next run is planned for, and brings it up then, as if time had passed.
    pub(crate) async fn plan_for(&self, id: ScheduleId, at: Timestamp) -> Result<()> {
        let edited = |text: &str| -> Result<String> {
            let mut record: serde_json::Value = serde_json::from_str(text)?;
            record["clock"]["planned_at"] = serde_json::to_value(at)?;
            record["clock"]["postponed_to"] = serde_json::Value::Null;
            Ok(record.to_string())
        };
        let at_ms = at.as_millisecond().to_string();
        match &self.behind {
            Behind::Redis(redis, prefix) => {
                let record = format!("{{{prefix}}}:r:schedule:{id}");
                let text = edited(&redis.cli(&["--raw", "HGET", &record, "b"]).await?)?;
                redis.cli(&["HSET", &record, "b", &text]).await?;
                redis
                    .cli(&["ZADD", &format!("{{{prefix}}}:i:schedules:due"), &at_ms, &id.to_string()])
                    .await?;
            }
            Behind::Embedded(path) => {
                let connection = rusqlite::Connection::open(path)?;
                let key = format!("schedule:{id}");
                let text: String =
                    connection
                        .query_row("select body from record where key = ?1", [&key], |row| row.get(0))?;
                connection.execute("update record set body = ?2 where key = ?1", [&key, &edited(&text)?])?;
                let due = "insert or replace into entry values ('schedules:due', ?1, cast(?2 as integer))";
                connection.execute(due, [id.to_string(), at_ms])?;
            }
        }
        Ok(())
    }

    /// In how many seconds the scheduler must look at a job; none when it has no due time.
    pub(crate) async fn due_in_s(&self, id: JobId) -> Result<Option<f64>> {
        let now_ms = self.store.now().await?.as_millisecond();
        let due_ms: Option<i64> = match &self.behind {
            Behind::Redis(redis, prefix) => {
                let (index, member) = (format!("{{{prefix}}}:i:due"), id.to_string());
                let score = redis.cli(&["--raw", "ZSCORE", &index, &member]).await?;
                if score.is_empty() { None } else { Some(score.parse().context("a score")?) }
            }
            Behind::Embedded(path) => {
                let connection = rusqlite::Connection::open(path)?;
                let mut asked =
                    connection.prepare("select score from entry where name = 'due' and member = ?1")?;
                let scores = asked.query_map([id.to_string()], |row| row.get(0))?;
                scores.collect::<Result<Vec<i64>, _>>()?.first().copied()
            }
        };
        Ok(due_ms.map(|due_ms| (due_ms - now_ms) as f64 / 1000.0))
    }
}
