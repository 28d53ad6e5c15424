//! Money in words.

use super::stretch::{Rate, Stored};
use super::usage::Usage;
use rust_decimal::{Decimal, RoundingStrategy};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// What a park saves, for the person whose container it is.
pub fn park(rate: &Rate, stored: &Stored, currency: &str) -> String {
    let of = |lasted_ms| Usage::of(lasted_ms, rate, Some(stored));
    format!(
        "Parked: saves {} per hour; its image costs {} per day. After 30 days that is {} saved.",
        amount(rate.price_per_hour, currency),
        amount(of(DAY_MS).storage_cost(), currency),
        amount(of(30 * DAY_MS).avoided(), currency),
    )
}

/// An amount rounded to cents; what is above nothing is never shown as nothing.
fn amount(amount: Decimal, currency: &str) -> String {
    let cent = Decimal::new(1, 2);
    if amount > Decimal::ZERO && amount < cent {
        return format!("less than {cent} {currency}");
    }
    format!("{:.2} {currency}", amount.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::FlavorName;

    #[test]
    fn a_park_says_what_it_saves() {
        let rate = Rate { flavor: FlavorName::new("c.super").unwrap(), price_per_hour: Decimal::from(58) };
        let sentence = |bytes, price: &str| {
            park(&rate, &Stored { bytes, price_per_gb_month: price.parse().unwrap() }, "TWD")
        };
        // 2 GB at 1.825 a gigabyte-month is 0.12 a day.
        assert_eq!(
            sentence(2_000_000_000, "1.825"),
            "Parked: saves 58.00 TWD per hour; its image costs 0.12 TWD per day. After 30 days that is 41756.40 TWD saved."
        );
        assert!(sentence(1, "1").contains("its image costs less than 0.01 TWD per day"));
        assert!(sentence(1 << 40, "0").contains("its image costs 0.00 TWD per day"));
    }
}
