//! What happens to a container meanwhile.

use super::wire::{Ask, Lines, encode};
use super::{DockerError, Engine};
use hyper::Method;
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeSet;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    /// Docker's word: `pause`, `unpause`, `die`, `kill`, `start`, `destroy`, `rename`, …
    pub action: String,
    /// When, by Docker's clock.
    pub at: Timestamp,
}

impl ContainerEvent {
    /// Whether the container's processes ran after it, or may have.
    pub fn lets_run(&self) -> bool {
        matches!(self.action.as_str(), "unpause" | "start" | "restart")
    }
}

/// Events of one container, as they come.
#[derive(Debug)]
pub struct ContainerEvents {
    lines: Lines,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "timeNano", default)]
    time_ns: i64,
}

const WHAT: &str = "watch container";

impl Engine {
    /// Subscribes to the events of a container, those since `since` included: so nothing is missed between a look at
    /// the clock and the answer. Docker remembers the last few hundred events of the whole node.
    pub async fn events(&self, docker_id: &str, since: Timestamp) -> Result<ContainerEvents, DockerError> {
        let lines = self.stream(self.ask(docker_id, since, None)).await?;
        Ok(ContainerEvents { lines })
    }

    /// The events of a container between two moments of the past, as far as Docker remembers them.
    pub async fn events_between(
        &self,
        docker_id: &str,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<ContainerEvent>, DockerError> {
        let mut events =
            ContainerEvents { lines: self.stream(self.ask(docker_id, since, Some(until))).await? };
        let mut found = Vec::new();
        while let Some(event) = events.next().await? {
            found.push(event);
        }
        Ok(found)
    }

    fn ask(&self, docker_id: &str, since: Timestamp, until: Option<Timestamp>) -> Ask {
        let filters = serde_json::json!({"type": ["container"], "container": [docker_id]}).to_string();
        let mut path = format!("/events?since={}&filters={}", moment(since), encode(&filters));
        if let Some(until) = until {
            path.push_str("&until=");
            path.push_str(&moment(until));
        }
        // A container may rest for days; a question about the past may not.
        let idle = until.map(|_| self.limits.call);
        Ask { what: WHAT, method: Method::GET, path, auth: None, head: self.limits.call, idle }
    }
}

impl ContainerEvents {
    /// The next event; none when Docker ended the stream. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<Option<ContainerEvent>, DockerError> {
        let Some(line) = self.lines.next::<Line>().await? else { return Ok(None) };
        let at = Timestamp::from_nanosecond(i128::from(line.time_ns))
            .map_err(|e| DockerError::Answer { what: WHAT, reason: e.to_string() })?;
        Ok(Some(ContainerEvent { action: line.action, at }))
    }
}

/// A watch over a container: whether anything has let it run since the watch began.
///
/// The stream alone does not tell: what happened a moment ago may still be on its way. Docker's memory alone does not
/// either: it holds the last few hundred events of the whole node, and a save may take hours.
#[derive(Debug)]
pub struct RunWatch {
    engine: Engine,
    docker_id: String,
    since: Timestamp,
    seen: watch::Receiver<Seen>,
    // Reads the stream as it comes: one that is not read is not delivered.
    _reader: JoinSet<()>,
}

/// What the stream has brought.
#[derive(Debug, Default)]
struct Seen {
    /// When the container was let run: the first of these moments.
    runs: BTreeSet<Timestamp>,
    /// That the stream is over, and why.
    end: Option<End>,
}

#[derive(Debug)]
enum End {
    ByDocker,
    Broken(String),
}

/// Moments that are kept: more than one answers every question.
const RUNS_MAX: usize = 4;

impl Engine {
    /// Watches a container from now on.
    pub async fn watch(&self, docker_id: &str) -> Result<RunWatch, DockerError> {
        let since = self.clock().await?;
        let events = self.events(docker_id, since).await?;
        let (seen, watched) = watch::channel(Seen::default());
        let mut reader = JoinSet::new();
        reader.spawn(read(events, seen));
        let (engine, docker_id) = (self.clone(), docker_id.to_owned());
        Ok(RunWatch { engine, docker_id, since, seen: watched, _reader: reader })
    }
}

async fn read(mut events: ContainerEvents, seen: watch::Sender<Seen>) {
    let end = loop {
        match events.next().await {
            Ok(Some(event)) if event.lets_run() => seen.send_modify(|seen| {
                if seen.runs.len() < RUNS_MAX {
                    seen.runs.insert(event.at);
                }
            }),
            Ok(Some(_)) => {}
            Ok(None) => break End::ByDocker,
            Err(error) => break End::Broken(error.to_string()),
        }
    };
    seen.send_modify(|seen| seen.end = Some(end));
}

impl RunWatch {
    /// Whether anything has let the container run, up to the call. A watch that has a gap is an error: whoever asks wants
    /// to know that nothing happened.
    pub async fn ran(&self) -> Result<bool, DockerError> {
        self.ran_more_often_than(0).await
    }

    /// The same of a container that the caller itself has thawed once, as Docker has confirmed, and that nobody else was
    /// to let run. A watch that has not seen that thaw has a gap, too.
    pub async fn ran_besides_own_thaw(&self) -> Result<bool, DockerError> {
        self.ran_more_often_than(1).await
    }

    async fn ran_more_often_than(&self, own: usize) -> Result<bool, DockerError> {
        let until = self.engine.clock().await?;
        let lately = self.engine.events_between(&self.docker_id, self.since, until).await?;
        let seen = self.seen.borrow();
        let mut runs = seen.runs.clone();
        runs.extend(lately.iter().filter(|event| event.lets_run()).map(|event| event.at));
        match &seen.end {
            _ if runs.len() > own => Ok(true),
            Some(End::Broken(reason)) => Err(DockerError::Broken { what: WHAT, reason: reason.clone() }),
            Some(End::ByDocker) => Err(DockerError::Cut { what: WHAT }),
            None if runs.len() < own => Err(DockerError::Cut { what: WHAT }),
            None => Ok(false),
        }
    }
}

/// Seconds and nanoseconds, as Docker takes them.
fn moment(at: Timestamp) -> String {
    format!("{}.{:09}", at.as_second(), at.subsec_nanosecond().max(0))
}
