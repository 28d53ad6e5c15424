//! Numbers and times as people read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_decimal::{Decimal, RoundingStrategy};

/// Bytes, in the decimal units that Docker uses: `482 MB`, `1.2 GB`.
pub(crate) fn bytes(count: u64) -> String {
    mothball_domain::size::human(count)
}

/// A stretch of seconds, in its two largest units: `3 h 12 min`.
pub(crate) fn seconds(count: u64) -> String {
    let (days, hours, minutes) = (count / 86_400, count / 3600 % 24, count / 60 % 60);
    let pair = |a: u64, unit_a: &str, b: u64, unit_b: &str| match b {
        0 => format!("{a} {unit_a}"),
        _ => format!("{a} {unit_a} {b} {unit_b}"),
    };
    match count {
        0..60 => format!("{count} s"),
        60..3600 => pair(minutes, "min", count % 60, "s"),
        3600..86_400 => pair(hours, "h", minutes, "min"),
        _ => pair(days, "d", hours, "h"),
    }
}

/// How long ago, or in how long: for columns of a table.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    let distance = now.as_second().saturating_sub(at.as_second());
    let rough = |count: u64| match count {
        0..60 => format!("{count} s"),
        60..3600 => format!("{} min", count / 60),
        3600..172_800 => format!("{} h", count / 3600),
        _ => format!("{} d", count / 86_400),
    };
    match distance {
        // Clocks of two machines differ by a little.
        -2..=2 => "now".to_owned(),
        3.. => format!("{} ago", rough(distance.unsigned_abs())),
        _ => format!("in {}", rough(distance.unsigned_abs())),
    }
}

/// The time in the reader's own zone, to the second.
pub(crate) fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// An amount of money, rounded to cents as people do: `12.35 TWD`.
pub(crate) fn money(amount: Decimal, currency: &str) -> String {
    let rounded = amount.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
    let text = if rounded.is_integer() { format!("{rounded:.0}") } else { format!("{rounded:.2}") };
    format!("{text} {currency}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_at_most_three_digits() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_951, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (1_234_567_890, "1.2 GB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(bytes(count), text, "{count}");
        }
    }

    #[test]
    fn stretches_of_time() {
        for (count, text) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (192, "3 min 12 s"), (3600, "1 h"), (90_000, "1 d 1 h")]
        {
            assert_eq!(seconds(count), text);
        }
        let at = |s| Timestamp::from_second(s).unwrap();
        for (then, text) in [
            (1_000_000, "now"),
            (1_000_001, "now"),
            (999_990, "10 s ago"),
            (999_000, "16 min ago"),
            (900_000, "27 h ago"),
            (500_000, "5 d ago"),
            (1_000_300, "in 5 min"),
        ] {
            assert_eq!(relative(at(then), at(1_000_000)), text, "{then}");
        }
    }

    #[test]
    fn local_times_carry_their_offset() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        assert_eq!(local(Timestamp::UNIX_EPOCH, &zone), "1970-01-01 08:00:00 +08:00");
    }

    #[test]
    fn money_is_rounded_only_for_people() {
        for (amount, text) in
            [("671.99444444", "671.99 TWD"), ("58", "58 TWD"), ("0.005", "0.01 TWD"), ("2.5", "2.50 TWD")]
        {
            assert_eq!(money(amount.parse().unwrap(), "TWD"), text);
        }
    }
}
