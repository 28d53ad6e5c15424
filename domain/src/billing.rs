//! What a container has cost: exact decimals, from recorded transitions, never from sampling.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// A stretch of time that is billed: from `ready` until the container is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Billed {
    /// When the container became ready.
    pub from: Timestamp,
    /// When it was gone; none while it exists.
    pub to: Option<Timestamp>,
}

/// Seconds billed up to `now`, to the millisecond.
pub fn seconds(stretches: &[Billed], now: Timestamp) -> Decimal {
    let milliseconds: i64 = stretches
        .iter()
        .map(|s| s.to.unwrap_or(now).as_millisecond().saturating_sub(s.from.as_millisecond()).max(0))
        .sum();
    Decimal::new(milliseconds, 3)
}

/// What `seconds` cost at `price_per_hour`: `seconds` x price / 3600, not rounded.
pub fn cost(seconds: Decimal, price_per_hour: Decimal) -> Decimal {
    (seconds * price_per_hour / Decimal::from(3600)).normalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// TWCC's own example: 11 h 35 min 10 s at 58 an hour is 671.99…, which its bill rounds to 672.
    #[test]
    fn the_manuals_example() {
        let stretch = [Billed { from: at(1000), to: Some(at(1000 + 41_710)) }];
        let cost = cost(seconds(&stretch, at(99_999)), Decimal::from(58));
        assert_eq!(cost.round_dp(8).to_string(), "671.99444444");
    }

    #[test]
    fn a_running_container_is_billed_up_to_now_and_a_clock_that_ran_back_bills_nothing() {
        let stretches = [Billed { from: at(0), to: Some(at(3600)) }, Billed { from: at(7200), to: None }];
        assert_eq!(seconds(&stretches, at(7201)), Decimal::from(3601));
        assert_eq!(seconds(&[Billed { from: at(10), to: None }], at(5)), Decimal::ZERO);
    }

    proptest! {
        #[test]
        fn splitting_a_stretch_changes_nothing(a in 0..1_000_000i64, b in 0..1_000_000i64, c in 0..1_000_000i64) {
            let mut cut = [a, b, c];
            cut.sort_unstable();
            let whole = [Billed { from: at(cut[0]), to: Some(at(cut[2])) }];
            let halves = [Billed { from: at(cut[0]), to: Some(at(cut[1])) }, Billed { from: at(cut[1]), to: Some(at(cut[2])) }];
            prop_assert_eq!(seconds(&whole, at(0)), seconds(&halves, at(0)));
        }
    }
}
