//! The kinds of news, as webhooks and preferences name them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A kind of news. The set is part of the API: names are added, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Event {
    /// A job succeeded.
    JobSucceeded,
    /// A job failed.
    JobFailed,
    /// A container will be parked, unless it is kept.
    ContainerWarned,
    /// A policy has begun to park a container.
    ContainerParking,
    /// A container was parked.
    ContainerParked,
    /// A container was woken.
    ContainerWoken,
    /// A project reached 50, 80 or 100 % of its budget.
    BudgetReached,
    /// An image will be removed, unless it is pinned or used.
    ImageExpiring,
    /// Somebody tries a webhook. Nobody can choose it: it goes to the one that is tried.
    Ping,
}

/// No event has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event is one of {}", Event::CHOICES.map(Event::as_str).join(", "))]
pub struct UnknownEvent;

impl Event {
    /// Every event that can be chosen.
    pub const CHOICES: [Self; 8] = [
        Self::JobSucceeded,
        Self::JobFailed,
        Self::ContainerWarned,
        Self::ContainerParking,
        Self::ContainerParked,
        Self::ContainerWoken,
        Self::BudgetReached,
        Self::ImageExpiring,
    ];

    /// Those that people are told of by e-mail unless they choose others: what they must act on, and what was done
    /// without their asking. That a job went well is not among them.
    pub const USUAL: [Self; 7] = [
        Self::JobFailed,
        Self::ContainerWarned,
        Self::ContainerParking,
        Self::ContainerParked,
        Self::ContainerWoken,
        Self::BudgetReached,
        Self::ImageExpiring,
    ];

    /// The event as it stands in JSON: full stops between the words, as the Standard Webhooks specification asks for.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobSucceeded => "job.succeeded",
            Self::JobFailed => "job.failed",
            Self::ContainerWarned => "container.warned",
            Self::ContainerParking => "container.parking",
            Self::ContainerParked => "container.parked",
            Self::ContainerWoken => "container.woken",
            Self::BudgetReached => "budget.reached",
            Self::ImageExpiring => "image.expiring",
            Self::Ping => "webhook.ping",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Event {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, UnknownEvent> {
        Self::CHOICES.into_iter().find(|event| event.as_str() == text).ok_or(UnknownEvent)
    }
}

impl TryFrom<String> for Event {
    type Error = UnknownEvent;

    fn try_from(text: String) -> Result<Self, UnknownEvent> {
        if text == Self::Ping.as_str() { Ok(Self::Ping) } else { text.parse() }
    }
}

impl From<Event> for String {
    fn from(event: Event) -> String {
        event.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_read_back_and_a_ping_cannot_be_chosen() {
        for event in Event::CHOICES {
            assert_eq!(event.as_str().parse(), Ok(event));
        }
        assert_eq!("webhook.ping".parse::<Event>(), Err(UnknownEvent));
        assert_eq!(Event::try_from("webhook.ping".to_owned()), Ok(Event::Ping), "but it is recorded");
        assert!(UnknownEvent.to_string().contains("job.failed, container.warned"));
    }
}
