//! The Redis adapter: a record is a hash (`v` revision, `b` text), an index a sorted set, a commit one Lua script.
//!
//! Every key has the same hash tag, so that a commit may touch any of them on a replicated Redis or a Cluster
//! (tried: two tags answer CROSSSLOT). Time is the server's, so clocks of nodes do not matter.

use super::{Changes, Found, Order};
use crate::StoreError;
use jiff::Timestamp;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{ErrorKind, RedisError, Script};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

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
    connection: OnceCell<ConnectionManager>,
    read: Script,
    commit: Script,
    due: Script,
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
            connection: OnceCell::new(),
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
        let answer: Vec<String> = self.limited(call.invoke_async(&mut self.connection().await?)).await?;
        let number = |i: usize| answer.get(i).and_then(|t: &String| t.parse::<i64>().ok()).unwrap_or(0);
        let now =
            Timestamp::from_microsecond(number(0) * 1_000_000 + number(1)).unwrap_or(Timestamp::UNIX_EPOCH);
        let records = (0..keys.len()).map(|i| {
            let revision = number(2 + 2 * i) as u64;
            (revision, (revision > 0).then(|| answer[3 + 2 * i].clone()))
        });
        Ok(Found { now, records: records.collect() })
    }

    pub(crate) async fn commit(&self, changes: Changes) -> Result<bool, StoreError> {
        let mut call = self.inner.commit.prepare_invoke();
        call.key(self.key("rev"));
        call.arg(changes.checks.len()).arg(changes.puts.len()).arg(changes.deletes.len());
        call.arg(changes.adds.len()).arg(changes.removes.len());
        for (key, revision) in &changes.checks {
            call.key(self.record(key)).arg(*revision);
        }
        for (key, text, ttl) in &changes.puts {
            let ttl_ms = ttl.map_or(0, |t| t.as_millis() as u64);
            call.key(self.record(key)).arg(text).arg(ttl_ms);
        }
        for key in &changes.deletes {
            call.key(self.record(key));
        }
        for (index, member, score) in &changes.adds {
            call.key(self.index(index)).arg(*score).arg(member);
        }
        for (index, member) in &changes.removes {
            call.key(self.index(index)).arg(member);
        }
        let applied: i64 = self.limited(call.invoke_async(&mut self.connection().await?)).await?;
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
        command.arg("LIMIT").arg(0).arg(limit);
        self.limited(command.query_async(&mut self.connection().await?)).await
    }

    pub(crate) async fn due(&self, index: &str, limit: usize) -> Result<Vec<String>, StoreError> {
        let mut call = self.inner.due.prepare_invoke();
        call.key(self.index(index)).arg(limit);
        self.limited(call.invoke_async(&mut self.connection().await?)).await
    }

    pub(crate) async fn count(&self, index: &str) -> Result<u64, StoreError> {
        let mut command = redis::cmd("ZCARD");
        command.arg(self.index(index));
        self.limited(command.query_async(&mut self.connection().await?)).await
    }

    /// What an operator must know of the server's settings: whether it can lose what it has acknowledged.
    pub(crate) async fn advice(&self) -> Result<Vec<String>, StoreError> {
        let mut connection = self.connection().await?;
        let mut advice = Vec::new();
        for (name, good, warning) in [
            (
                "appendonly",
                &["yes"][..],
                "Redis keeps no append-only file: set `appendonly yes`, or a restart loses jobs",
            ),
            (
                "maxmemory-policy",
                &["noeviction"][..],
                "Redis may drop records when memory is short: set `maxmemory-policy noeviction`",
            ),
        ] {
            let mut command = redis::cmd("CONFIG");
            command.arg("GET").arg(name);
            let answer: Vec<String> = self.limited(command.query_async(&mut connection)).await?;
            if !answer.get(1).is_some_and(|value| good.contains(&value.as_str())) {
                advice.push(warning.to_owned());
            }
        }
        Ok(advice)
    }

    async fn connection(&self) -> Result<ConnectionManager, StoreError> {
        let inner = &self.inner;
        let connect = || async {
            let timeout = Some(inner.settings.timeout);
            // The crate's own limits are 500 ms for an answer and 1 s to connect (tried), too short for a busy server.
            let config = ConnectionManagerConfig::new()
                .set_response_timeout(timeout)
                .set_connection_timeout(timeout)
                .set_number_of_retries(2)
                .set_max_delay(Duration::from_millis(500));
            ConnectionManager::new_with_config(inner.client.clone(), config)
                .await
                .map_err(|e| unavailable(&e))
        };
        inner.connection.get_or_try_init(connect).await.cloned()
    }

    async fn limited<T>(&self, call: impl Future<Output = Result<T, RedisError>>) -> Result<T, StoreError> {
        // The manager's own limit covers the answer, not the wait for a new connection.
        match tokio::time::timeout(self.inner.settings.timeout * 2, call).await {
            Ok(answer) => answer.map_err(|e| unavailable(&e)),
            Err(_) => Err(StoreError::Unavailable("Redis did not answer in time".into())),
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

/// Says what went wrong without repeating the URL.
fn unavailable(error: &RedisError) -> StoreError {
    let what = match error.kind() {
        ErrorKind::AuthenticationFailed => "Redis refused the password of store.url".to_owned(),
        _ if error.is_timeout() => "Redis did not answer in time".to_owned(),
        _ if error.is_io_error() || error.is_connection_refusal() => "Redis cannot be reached".to_owned(),
        _ => format!("Redis answered: {}", error.code().unwrap_or_else(|| error.category())),
    };
    StoreError::Unavailable(what)
}
