//! What happens to a container meanwhile.

use super::wire::{Ask, Lines, encode};
use super::{DockerError, Engine};
use futures_util::FutureExt;
use hyper::Method;
use jiff::Timestamp;
use serde::Deserialize;

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

    /// Every event that has arrived, without waiting for more. An ended stream is an error here: whoever asks wants to
    /// know that nothing happened.
    pub fn arrived(&mut self) -> Result<Vec<ContainerEvent>, DockerError> {
        let mut found = Vec::new();
        loop {
            match self.next().now_or_never() {
                None => return Ok(found),
                Some(Ok(Some(event))) => found.push(event),
                Some(Ok(None)) => return Err(DockerError::Cut { what: WHAT }),
                Some(Err(e)) => return Err(e),
            }
        }
    }
}

/// Seconds and nanoseconds, as Docker takes them.
fn moment(at: Timestamp) -> String {
    format!("{}.{:09}", at.as_second(), at.subsec_nanosecond().max(0))
}
