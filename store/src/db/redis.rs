//! The Redis adapter: a record is a hash (`v` revision, `b` text), an index a sorted set, a commit one Lua script.
//!
//! Every key has the same hash tag, so that a commit may touch any of them on a replicated Redis or a Cluster
//! (tried: two tags answer CROSSSLOT). Time is the server's, so clocks of nodes do not matter.

use super::{Changes, Found, Order};
use crate::StoreError;
use jiff::Timestamp;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{ErrorKind, FromRedisValue, RedisError, Script};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::RwLock;

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `redis://…` or `rediss://…`; may hold a password.
    pub url: SecretString,
    /// The beginning of every key, in braces; several systems can share one Redis.
    pub prefix: String,
    /// How long one call may take.
    pub timeout: Duration,
}

impl RedisSettings {
    /// Settings with the usual prefix and time limit.
    pub fn new(url: SecretString) -> Self {
        Self { url, prefix: "mothball".to_owned(), timeout: Duration::from_secs(3) }
    }
}

/// A connection to Redis, shared by all clones and made anew when it breaks.
#[derive(Clone)]
pub(crate) struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    client: redis::Client,
    settings: RedisSettings,
    line: RwLock<Line>,
    read: Script,
    commit: Script,
    due: Script,
}

/// The connection in use, and how many were before it.
#[derive(Default)]
struct Line {
    number: u64,
    connection: Option<ConnectionManager>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("prefix", &self.inner.settings.prefix).finish_non_exhaustive()
    }
}

impl Redis {
    /// Checks the URL; connects at the first call.
    pub(crate) fn new(settings: RedisSettings) -> Result<Self, StoreError> {
        let client = redis::Client::open(settings.url.expose_secret())
            // The error's own text may repeat the URL with its password.
            .map_err(|_| {
                StoreError::Settings("store.url is not a Redis URL: write redis://HOST:PORT/DB".into())
            })?;
        let inner = Inner {
            client,
            settings,
            line: RwLock::default(),
            read: Script::new(include_str!("read.lua")),
            commit: Script::new(include_str!("commit.lua")),
            due: Script::new(include_str!("due.lua")),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) async fn read(&self, keys: Vec<String>) -> Result<Found, StoreError> {
        let mut call = self.inner.read.prepare_invoke();
        for key in &keys {
            call.key(self.record(key));
        }
        let answer: Vec<String> = self
            .ask(|mut line| {
                let asked = &call;
                async move { asked.invoke_async(&mut line).await }
            })
            .await?;
        let number = |i: usize| answer.get(i).and_then(|t: &String| t.parse::<i64>().ok()).unwrap_or(0);
        let now =
            Timestamp::from_microsecond(number(0) * 1_000_000 + number(1)).unwrap_or(Timestamp::UNIX_EPOCH);
        let records = (0..keys.len()).map(|i| {
            let revision = number(2 + 2 * i) as u64;
            (revision, answer.get(3 + 2 * i).filter(|_| revision > 0).cloned())
        });
        Ok(Found { now, records: records.collect() })
    }

    pub(crate) async fn commit(&self, changes: Changes) -> Result<bool, StoreError> {
        let mut call = self.inner.commit.prepare_invoke();
        call.key(self.key("rev"));
        call.arg(changes.checks.len()).arg(changes.puts.len()).arg(changes.deletes.len());
        call.arg(changes.adds.len()).arg(changes.moves.len()).arg(changes.removes.len());
        for (key, revision) in &changes.checks {
            call.key(self.record(key)).arg(*revision);
        }
        for (key, text, ttl) in &changes.puts {
            // A time to live of nothing at all would mean for ever.
            let ttl_ms = ttl.map_or(0, |t| (t.as_millis() as u64).max(1));
            call.key(self.record(key)).arg(text).arg(ttl_ms);
        }
        for key in &changes.deletes {
            call.key(self.record(key));
        }
        for (index, member, score) in changes.adds.iter().chain(&changes.moves) {
            call.key(self.index(index)).arg(*score).arg(member);
        }
        for (index, member) in &changes.removes {
            call.key(self.index(index)).arg(member);
        }
        let (number, mut line) = self.line().await?;
        // Never sent twice: the first one may have been applied though its answer was lost.
        let applied: i64 = self.limited(number, call.invoke_async(&mut line)).await?;
        Ok(applied == 1)
    }

    pub(crate) async fn scan(
        &self,
        index: &str,
        after: Option<&str>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.index(index));
        let after = after.map(|member| format!("({member}"));
        match order {
            Order::Ascending => command.arg(after.as_deref().unwrap_or("-")).arg("+").arg("BYLEX"),
            Order::Descending => {
                command.arg(after.as_deref().unwrap_or("+")).arg("-").arg("BYLEX").arg("REV")
            }
        };
        command.arg("LIMIT").arg(0).arg(bound(limit));
        self.ask(|mut line| {
            let asked = &command;
            async move { asked.query_async(&mut line).await }
        })
        .await
    }

    pub(crate) async fn due(&self, index: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        let mut call = self.inner.due.prepare_invoke();
        call.key(self.index(index)).arg(bound(limit));
        self.ask(|mut line| {
            let asked = &call;
            async move { asked.invoke_async(&mut line).await }
        })
        .await
    }

    pub(crate) async fn since(
        &self,
        index: &str,
        score: i64,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.index(index)).arg(score).arg("+inf").arg("BYSCORE");
        command.arg("LIMIT").arg(0).arg(bound(limit));
        self.ask(|mut line| {
            let asked = &command;
            async move { asked.query_async(&mut line).await }
        })
        .await
    }

    pub(crate) async fn count(&self, indexes: &[String]) -> Result<Vec<u64>, StoreError> {
        if indexes.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for index in indexes {
            pipe.cmd("ZCARD").arg(self.index(index));
        }
        self.ask(|mut line| {
            let asked = &pipe;
            async move { asked.query_async(&mut line).await }
        })
        .await
    }

    /// What an operator must know of the server's settings: whether it can lose what it has acknowledged.
    pub(crate) async fn advice(&self) -> Result<Vec<String>, StoreError> {
        // Whether it answers at all; some servers answer, but not to CONFIG.
        self.read(Vec::new()).await?;
        let mut advice = Vec::new();
        for (name, good, warning) in [
            (
                "appendonly",
                &["yes"][..],
                "Redis keeps no append-only file: set `appendonly yes`, or a restart loses jobs",
            ),
            (
                "appendfsync",
                &["always", "everysec"][..],
                "Redis leaves it to the system when it writes: set `appendfsync always`, or a restart loses jobs",
            ),
            (
                "maxmemory-policy",
                &["noeviction"][..],
                "Redis may drop records when memory is short: set `maxmemory-policy noeviction`",
            ),
        ] {
            let mut command = redis::cmd("CONFIG");
            command.arg("GET").arg(name);
            let answer: Result<Vec<String>, _> = self
                .ask(|mut line| {
                    let asked = &command;
                    async move { asked.query_async(&mut line).await }
                })
                .await;
            match answer.as_deref() {
                Ok([_, value]) if good.contains(&value.as_str()) => {}
                Ok([_, _]) => advice.push(warning.to_owned()),
                _ => advice.push(format!("Redis does not show its setting {name}, which matters: {warning}")),
            }
        }
        Ok(advice)
    }

    /// Asks something that may be asked again, and does so once when the connection turns out to be broken.
    // Not an async closure of a borrowed connection: its future would not be known to be `Send` in a spawned task.
    async fn ask<T: FromRedisValue, F: Future<Output = Result<T, RedisError>>>(
        &self,
        question: impl Fn(ConnectionManager) -> F,
    ) -> Result<T, StoreError> {
        let (number, line) = self.line().await?;
        let asked = async {
            match question(line.clone()).await {
                Err(e) if e.is_connection_dropped() => question(line).await,
                answer => answer,
            }
        };
        self.limited(number, asked).await
    }

    /// The connection, made now where there is none.
    async fn line(&self) -> Result<(u64, ConnectionManager), StoreError> {
        let inner = &self.inner;
        if let Line { number, connection: Some(connection) } = &*inner.line.read().await {
            return Ok((*number, connection.clone()));
        }
        // The wait for those who are connecting counts too: with many callers it would grow without bound.
        tokio::time::timeout(inner.settings.timeout * 2, self.connect()).await.map_err(|_| late())?
    }

    async fn connect(&self) -> Result<(u64, ConnectionManager), StoreError> {
        let inner = &self.inner;
        let mut line = inner.line.write().await;
        if let Line { number, connection: Some(connection) } = &*line {
            return Ok((*number, connection.clone()));
        }
        let timeout = Some(inner.settings.timeout);
        // The crate's own limits are 500 ms for an answer and 1 s to connect (tried), too short for a busy server.
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(timeout)
            .set_connection_timeout(timeout)
            .set_number_of_retries(2)
            .set_max_delay(Duration::from_millis(500));
        let connecting = ConnectionManager::new_with_config(inner.client.clone(), config);
        let mut connection = connecting.await.map_err(|e| unavailable(&e))?;
        // A server that wants a password lets anybody connect, and answers long commands in riddles.
        redis::cmd("PING").query_async::<()>(&mut connection).await.map_err(|e| unavailable(&e))?;
        line.number += 1;
        line.connection = Some(connection.clone());
        Ok((line.number, connection))
    }

    async fn limited<T>(
        &self,
        number: u64,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, StoreError> {
        // The manager's own limit covers the answer, not the wait for a new connection.
        match tokio::time::timeout(self.inner.settings.timeout * 2, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => {
                // The manager makes a broken connection anew, but keeps for ever one that the server refused when it
                // did (a password being changed, too many clients).
                if !e.is_io_error() {
                    let mut line = self.inner.line.write().await;
                    if line.number == number {
                        line.connection = None;
                    }
                }
                Err(unavailable(&e))
            }
            Err(_) => Err(late()),
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.inner.settings.prefix)
    }

    fn record(&self, key: &str) -> String {
        self.key(&format!("r:{key}"))
    }

    fn index(&self, index: &str) -> String {
        self.key(&format!("i:{index}"))
    }
}

/// Redis takes a signed number.
fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn late() -> StoreError {
    StoreError::Unavailable("Redis did not answer in time".into())
}

/// Says what went wrong without repeating the URL.
fn unavailable(error: &RedisError) -> StoreError {
    let what = match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) => {
            "Redis refused the user name or password of store.url".to_owned()
        }
        (_, Some("NOAUTH")) => "Redis wants a password: put it into store.url".to_owned(),
        _ if error.is_timeout() => return late(),
        _ if error.is_io_error() => "Redis cannot be reached".to_owned(),
        (_, code) => format!("Redis answered: {}", code.unwrap_or_else(|| error.category())),
    };
    StoreError::Unavailable(what)
}

#[cfg(test)]
mod tests;
