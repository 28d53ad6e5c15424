//! What stretches of time add up to.

use super::stretch::{Rate, Stored};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::iter::Sum;
use std::ops::AddAssign;

const HOUR_MS: i64 = 3_600_000;
/// The month that storage is priced by: a twelfth of 365 days, so that no month is dearer than another.
pub const HOURS_OF_MONTH: i64 = 730;
/// Bytes of a gigabyte, as storage is priced by.
const GIGABYTE: i64 = 1_000_000_000;

/// Usage: times, and prices multiplied by times. Divided only when it is shown: sums of parts are the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Milliseconds that are billed.
    pub billed_ms: i64,
    /// Milliseconds parked.
    pub parked_ms: i64,
    /// Price of an hour x milliseconds, of what is billed.
    billed: Decimal,
    /// The same of what would have been billed, had the container not been parked.
    spared: Decimal,
    /// Gigabytes x milliseconds that were stored meanwhile.
    #[serde(default)]
    gigabytes: Decimal,
    /// Price of a gigabyte-month x gigabytes x milliseconds, of the same.
    stored: Decimal,
}

impl Usage {
    /// A stretch of `lasted_ms` at this rate; parked, where something is stored.
    pub fn of(lasted_ms: i64, rate: &Rate, stored: Option<&Stored>) -> Self {
        let time = Decimal::from(lasted_ms);
        let price = rate.price_per_hour * time;
        match stored {
            None => Self { billed_ms: lasted_ms, billed: price, ..Self::default() },
            Some(stored) => {
                let gigabytes = Decimal::from(stored.bytes) / Decimal::from(GIGABYTE);
                Self {
                    parked_ms: lasted_ms,
                    spared: price,
                    gigabytes: gigabytes * time,
                    stored: gigabytes * stored.price_per_gb_month * time,
                    ..Self::default()
                }
            }
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.billed_ms == 0 && self.parked_ms == 0
    }

    /// Seconds billed, exact to the millisecond.
    pub fn seconds(&self) -> Decimal {
        Decimal::new(self.billed_ms, 3).normalize()
    }

    /// Seconds parked, exact to the millisecond.
    pub fn parked_seconds(&self) -> Decimal {
        Decimal::new(self.parked_ms, 3).normalize()
    }

    /// What is to be paid: seconds x price / 3600, not rounded.
    pub fn cost(&self) -> Decimal {
        (self.billed / Decimal::from(HOUR_MS)).normalize()
    }

    /// Gigabytes stored while parked, times months.
    pub fn gigabyte_months(&self) -> Decimal {
        (self.gigabytes / Decimal::from(HOUR_MS * HOURS_OF_MONTH)).normalize()
    }

    /// What storing the images of parked containers costs, not rounded.
    pub fn storage_cost(&self) -> Decimal {
        (self.stored / Decimal::from(HOUR_MS * HOURS_OF_MONTH)).normalize()
    }

    /// What parking has saved: what running would have cost, less the storage. Below zero where storage is dearer.
    pub fn avoided(&self) -> Decimal {
        (self.spared / Decimal::from(HOUR_MS) - self.storage_cost()).normalize()
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.billed_ms = self.billed_ms.saturating_add(other.billed_ms);
        self.parked_ms = self.parked_ms.saturating_add(other.parked_ms);
        self.billed = self.billed.saturating_add(other.billed);
        self.spared = self.spared.saturating_add(other.spared);
        self.gigabytes = self.gigabytes.saturating_add(other.gigabytes);
        self.stored = self.stored.saturating_add(other.stored);
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        let mut whole = Self::default();
        parts.for_each(|part| whole += part);
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::FlavorName;

    fn rate(price: &str) -> Rate {
        Rate { flavor: FlavorName::new("f").unwrap(), price_per_hour: price.parse().unwrap() }
    }

    fn text(amount: Decimal) -> String {
        amount.to_string()
    }

    /// Worked out by hand; the first is TWCC's own example, 11 h 35 min 10 s at 58, which its bill rounds to 672.
    #[test]
    fn costs_are_what_a_hand_would_write() {
        for (seconds, price, cost) in [
            (41_710, "58", "671.99444444444444444444444444"),
            (1, "3600", "1"),
            (1, "58", "0.0161111111111111111111111111"),
            (90, "58", "1.45"),
            (3600, "464", "464"),
            (86_400, "2", "48"),
            (2_592_000, "0.0001", "0.072"),
            (189, "86.10", "4.52025"),
            (0, "58", "0"),
        ] {
            assert_eq!(
                text(Usage::of(seconds * 1000, &rate(price), None).cost()),
                cost,
                "{seconds} s at {price}"
            );
        }
        assert_eq!(text(Usage::of(1, &rate("3600"), None).cost()), "0.001");
        assert_eq!(text(Usage::of(41_710_250, &rate("58"), None).seconds()), "41710.25");
    }

    #[test]
    fn parking_saves_the_price_less_the_storage() {
        let stored = |bytes, price: &str| Stored { bytes, price_per_gb_month: price.parse().unwrap() };
        // 10 GB for 73 hours, a tenth of the month, at 1.5 a gigabyte-month: 1.5. Running: 73 x 58 = 4234.
        let usage = Usage::of(73 * 3_600_000, &rate("58"), Some(&stored(10_000_000_000, "1.5")));
        assert_eq!((text(usage.storage_cost()), text(usage.avoided())), ("1.5".into(), "4232.5".into()));
        assert_eq!((text(usage.cost()), text(usage.seconds())), ("0".into(), "0".into()));
        assert_eq!(text(usage.parked_seconds()), "262800");
        // Every byte counts.
        let usage = Usage::of(730 * 3_600_000, &rate("0"), Some(&stored(1, "1")));
        assert_eq!(text(usage.storage_cost()), "0.000000001");
        assert_eq!(
            text(usage.avoided()),
            "-0.000000001",
            "storage that is dearer than running is said to be"
        );
    }

    #[test]
    fn what_does_not_fit_is_no_panic() {
        let huge = Stored { bytes: u64::MAX, price_per_gb_month: "1000000".parse().unwrap() };
        let mut usage = Usage::of(i64::from(u32::MAX) * 1000, &rate("1000000"), Some(&huge));
        for _ in 0..60 {
            usage += usage;
        }
        assert!(usage.storage_cost() > Decimal::ZERO);
    }
}
