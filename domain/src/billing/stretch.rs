//! A stretch of a container's life, and what it is metered at.

use super::usage::Usage;
use crate::flavor::Flavor;
use crate::name::FlavorName;
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Flavor and price of a stretch: fixed when it begins, whatever becomes of the price list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// The flavor.
    pub flavor: FlavorName,
    /// The price of an hour of it.
    pub price_per_hour: Decimal,
}

impl From<&Flavor> for Rate {
    fn from(flavor: &Flavor) -> Self {
        Self { flavor: flavor.name.clone(), price_per_hour: flavor.price_per_hour }
    }
}

/// What a parked container leaves in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Bytes of its image.
    pub bytes: u64,
    /// The price of a gigabyte (10^9 bytes) for a month, as it was when the image was saved.
    pub price_per_gb_month: Decimal,
}

/// A stretch of time that is metered: running, from `ready` until the container is gone, or parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// When it began.
    pub from: Timestamp,
    /// When it ended; none while it lasts.
    pub to: Option<Timestamp>,
    /// What it is metered at; none in records of before stretches had a price, where it is the container's flavor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// What is stored while the container is parked; none while it runs, and is billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Stored>,
}

impl Stretch {
    /// Whether it lasts.
    pub fn is_open(&self) -> bool {
        self.to.is_none()
    }

    /// Ends it, never before its own beginning.
    pub(crate) fn end(&mut self, at: Timestamp) {
        if self.to.is_none() {
            self.to = Some(at.max(self.from));
        }
    }

    /// What it comes to until `now`, at `rate` where it has none of its own.
    pub fn usage(&self, rate: &Rate, now: Timestamp) -> Usage {
        let until = self.to.unwrap_or(now);
        let lasted_ms = until.as_millisecond().saturating_sub(self.from.as_millisecond()).max(0);
        Usage::of(lasted_ms, self.rate.as_ref().unwrap_or(rate), self.stored.as_ref())
    }
}
