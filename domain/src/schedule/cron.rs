//! When a schedule fires: five fields of cron, read in a time zone.
//!
//! croner reads the pattern and says which wall-clock time comes next; what a change of the clocks means is decided here:
//!
//! | the hour is | a time that the clocks skip | a time that comes twice |
//! |---|---|---|
//! | named (`0 2 * * *`, `*/15 1,2 * * *`) | fires once, in the moment after the gap | fires the first time only |
//! | `*` or `*/N` | does not fire: it goes by real time | fires both times |
//!
//! So a nightly park is never left out and never done twice, and "every hour" stays every hour.

use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::{self, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest pattern, in characters.
pub const CRON_CHARS_MAX: usize = 120;
/// Wall-clock times looked at for the next firing: all the minutes of the longest gap there has been, and more.
const LOOKS_MAX: usize = 4 * 24 * 60;
/// Stretches of one offset looked at for the next firing: two a year, for longer than any pattern rests.
const STRETCHES_MAX: usize = 1000;

/// A cron pattern that can fire: minute, hour, day of month, month, day of week.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    pattern: croner::Cron,
}

/// Why a text is no pattern that can fire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// It is not five fields, or they do not keep their rules.
    #[error("cron {text:?} cannot be read: {why}")]
    Malformed {
        /// The text, cut to 64 characters.
        text: String,
        /// What the reader says.
        why: String,
    },
    /// No day is ever like that.
    #[error("cron {0:?} never fires: there is no such day")]
    Never(String),
}

impl CronError {
    /// What the writer of the pattern can do.
    pub const HINT: &'static str = "Write minute, hour, day of month, month and day of week, as in \"0 20 * * 1-5\" or \
        \"30 7 * * MON-FRI\"; see what it means with `mothball schedules next --cron \"…\" --tz ZONE`.";
}

impl Cron {
    /// Reads a pattern. Names of days and months, `L`, `W`, `#` and `@daily` and the like are known; seconds and years are not.
    pub fn new(text: &str) -> Result<Self, CronError> {
        let cut = || text.chars().take(64).collect::<String>();
        let malformed = |why: String| CronError::Malformed { text: cut(), why };
        if text.chars().count() > CRON_CHARS_MAX {
            return Err(malformed(format!("it is longer than {CRON_CHARS_MAX} characters")));
        }
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let fields = text.split(' ').count();
        if fields != 5 && !text.starts_with('@') {
            return Err(malformed(format!("it has {fields} fields instead of five")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let pattern = parser.parse(&text).map_err(|e| malformed(e.to_string()))?;
        // The calendar repeats: what does not come from here on never comes.
        if pattern.find_next_occurrence(&civil::date(2000, 1, 1).at(0, 0, 0, 0), true).is_err() {
            return Err(CronError::Never(cut()));
        }
        Ok(Self { text, pattern })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first time after `after` at which it fires in `zone`; none at the end of time alone.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if self.pattern.pattern.hours.from_wildcard {
            self.next_by_real_time(after, zone)
        } else {
            self.next_by_wall_clock(after, zone)
        }
    }

    /// Each wall-clock time once: wall-clock times in their order never come in another order in reality.
    fn next_by_wall_clock(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut from = zone.to_datetime(after);
        for look in 0..LOOKS_MAX {
            let wall = self.pattern.find_next_occurrence(&from, look == 0).ok()?;
            let at = instant_of(wall, zone)?;
            if at > after {
                return Some(at);
            }
            from = wall;
        }
        None
    }

    /// Stretch by stretch of one offset, in each of which the wall clock simply runs.
    fn next_by_real_time(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let (mut from, mut inclusive) = (after, false);
        for _ in 0..STRETCHES_MAX {
            let offset = zone.to_offset(from);
            let wall = self.pattern.find_next_occurrence(&offset.to_datetime(from), inclusive).ok()?;
            let at = offset.to_timestamp(wall).ok()?;
            match zone.following(from).next().map(|change| change.timestamp()) {
                Some(change) if at >= change => (from, inclusive) = (change, true),
                _ => return Some(at),
            }
        }
        None
    }
}

/// The moment of a wall-clock time: the first of two, and the end of the gap for one that is skipped.
fn instant_of(wall: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok(),
        AmbiguousOffset::Gap { after, .. } => {
            let just_before = after.to_timestamp(wall).ok()?;
            zone.following(just_before).next().map(|change| change.timestamp())
        }
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, CronError> {
        Self::new(&text)
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl std::str::FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        Self::new(text)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.text)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The next firings after a moment, as wall-clock times with their offset.
    fn next(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let (cron, zone) = (Cron::new(cron).unwrap(), TimeZone::get(zone).unwrap());
        let mut at: Timestamp = after.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..count {
            at = cron.next_after(at, &zone).unwrap();
            found.push(at.to_zoned(zone.clone()).strftime("%m-%d %H:%M%:z").to_string());
        }
        found
    }

    #[test]
    fn a_named_hour_that_is_skipped_fires_when_the_gap_is_over() {
        let night = "2026-03-28T22:00:00Z";
        assert_eq!(next("30 2 * * *", "Europe/Berlin", night, 2), ["03-29 03:00+02:00", "03-30 02:30+02:00"],);
        // All of the skipped ones together once; and what is due then anyway is not done twice.
        assert_eq!(
            next("*/15 2,3 * * *", "Europe/Berlin", night, 3),
            ["03-29 03:00+02:00", "03-29 03:15+02:00", "03-29 03:30+02:00"],
        );
        assert_eq!(
            next("10 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 2),
            ["10-04 02:30+11:00", "10-05 02:10+11:00"],
        );
        // Midnight itself is skipped: the day begins at one.
        assert_eq!(next("0 0 * * *", "Asia/Beirut", "2026-03-28T12:00:00Z", 1), ["03-29 01:00+03:00"]);
    }

    #[test]
    fn a_named_hour_that_comes_twice_fires_once() {
        let night = "2026-10-24T22:00:00Z";
        assert_eq!(next("30 2 * * *", "Europe/Berlin", night, 2), ["10-25 02:30+02:00", "10-26 02:30+01:00"],);
        assert_eq!(
            next("*/30 2 * * *", "Europe/Berlin", night, 3),
            ["10-25 02:00+02:00", "10-25 02:30+02:00", "10-26 02:00+01:00"],
        );
        // Asked from within the second time round.
        assert_eq!(next("45 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1), ["10-26 02:45+01:00"]);
    }

    #[test]
    fn every_hour_is_every_hour_whatever_the_clocks_say() {
        assert_eq!(
            next("0 * * * *", "Europe/Berlin", "2026-03-28T23:30:00Z", 3),
            ["03-29 01:00+01:00", "03-29 03:00+02:00", "03-29 04:00+02:00"],
        );
        assert_eq!(
            next("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 3),
            ["10-25 02:00+02:00", "10-25 02:00+01:00", "10-25 03:00+01:00"],
        );
        assert_eq!(
            next("*/15 * * * *", "Australia/Lord_Howe", "2026-04-04T14:40:00Z", 4),
            ["04-05 01:45+11:00", "04-05 01:30+10:30", "04-05 01:45+10:30", "04-05 02:00+10:30"],
        );
    }

    #[test]
    fn leap_days_last_days_names_and_nicknames() {
        assert_eq!(next("0 12 29 2 *", "UTC", "2026-01-01T00:00:00Z", 1), ["02-29 12:00+00:00"]);
        assert_eq!(
            next("0 20 L * *", "Asia/Taipei", "2026-01-31T13:00:00Z", 2),
            ["02-28 20:00+08:00", "03-31 20:00+08:00"],
        );
        assert_eq!(
            next("0 9 * JAN mon", "UTC", "2026-01-01T00:00:00Z", 2),
            ["01-05 09:00+00:00", "01-12 09:00+00:00"],
        );
        assert_eq!(next("@daily", "UTC", "2026-01-01T00:00:00Z", 1), ["01-02 00:00+00:00"]);
        assert_eq!(next("0 0 29 2 +MON", "UTC", "2026-01-01T00:00:00Z", 1), ["02-29 00:00+00:00"]);
        assert_eq!(next("0 * 29 2 +MON", "UTC", "2026-01-01T00:00:00Z", 1), ["02-29 00:00+00:00"]);
    }

    #[test]
    fn what_is_no_pattern_or_never_fires_is_refused_with_a_sentence() {
        for text in [
            "",
            "*",
            "* * * *",
            "* * * * * *",
            "61 * * * *",
            "0 24 * * *",
            "a b c d e",
            "0 0 0 * *",
            "@reboot",
            "@",
            "0 0 * * 8",
            "0 0 32 1 *",
            "5/0 * * * *",
            "0 0 * 13 *",
            "- - - - -",
            &"* ".repeat(100),
        ] {
            let error = Cron::new(text).unwrap_err();
            assert!(matches!(error, CronError::Malformed { .. }), "{text}: {error}");
        }
        for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "* * 31 feb *"] {
            assert!(matches!(Cron::new(text), Err(CronError::Never(_))), "{text}");
        }
    }

    #[test]
    fn a_pattern_survives_being_written_down() {
        let cron = Cron::new("  0   20 * * 1-5 ").unwrap();
        let text = serde_json::to_string(&cron).unwrap();
        assert_eq!(text, r#""0 20 * * 1-5""#);
        assert_eq!(serde_json::from_str::<Cron>(&text).unwrap(), cron);
        assert!(serde_json::from_str::<Cron>(r#""0 0 30 2 *""#).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[ -~]{0,40}", odd in ".{0,30}") {
            let _ = (Cron::new(&text), Cron::new(&odd));
        }

        #[test]
        fn nothing_like_a_pattern_panics(fields in prop::collection::vec("[0-9*/,LW#+?-]{1,6}", 5)) {
            if let Ok(cron) = Cron::new(&fields.join(" ")) {
                let at = Timestamp::from_second(1_800_000_000).unwrap();
                prop_assert!(cron.next_after(at, &TimeZone::UTC).is_none_or(|next| next > at));
            }
        }
    }
}
