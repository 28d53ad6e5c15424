//! A simulated year of schedules in five zones, against an oracle that knows neither croner nor this crate's rules for the
//! clocks: it goes through every minute that there is, asks what the wall clocks show, and reads the patterns itself.

use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use mothball_domain::id::{ContainerId, ScheduleId};
use mothball_domain::schedule::turn::Turn;
use mothball_domain::schedule::{Missed, PATIENCE_S_DEFAULT, Plan, Schedule, ScheduleAction, ScheduleTarget};
use std::collections::BTreeSet;

/// No change of the clocks; an hour at the end of March and October; an hour on Sundays of March and November; half an hour
/// in April and October, in the south; none.
const ZONES: [&str; 5] = ["Asia/Taipei", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"];

/// What people write, and what is hard: hours that are skipped or come twice, leap days, ends of months, names, steps.
const PATTERNS: [&str; 16] = [
    "0 20 * * 1-5",
    "30 7 * * MON-FRI",
    "30 2 * * *",
    "15 2 * * SUN",
    "45 1 * * *",
    "*/10 2 * * *",
    "5,35 1,2,3 * * *",
    "0 * * * *",
    "*/20 * * * *",
    "7 */3 * * *",
    "0 12 29 2 *",
    "30 23 L * *",
    "0 6 31 * *",
    "0 0 1,15 * 5",
    "59 23 31 12 *",
    "10 4 1-7 apr-oct *",
];

/// A leap year.
const FROM: &str = "2028-01-01T00:00:00Z";
const TO: &str = "2029-01-01T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn schedule(cron: &str, zone: &str) -> Schedule {
    let plan = Plan {
        target: ScheduleTarget::Container(ContainerId(1)),
        action: ScheduleAction::Park,
        cron: cron.parse().expect("a pattern"),
        timezone: zone.parse().expect("a zone"),
        missed: Missed::Skip,
        patience_s: PATIENCE_S_DEFAULT,
        tag: None,
        flavor: None,
        discard_volumes: false,
        description: String::new(),
    };
    let (project, user) = ("p".parse().expect("a project"), "ann".parse().expect("a user"));
    Schedule::new(ScheduleId(uuid::Uuid::nil()), project, user, plan, at(FROM))
}

/// A field of a pattern: the numbers that it names.
fn numbers(field: &str, names: &[&str], min: i8, max: i8) -> BTreeSet<i8> {
    let number = |text: &str| {
        let position = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        position.map_or_else(|| text.parse().expect("a number"), |position| min + position as i8)
    };
    let mut all = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first), number(last)),
            None if range == "*" => (min, max),
            None => (number(range), number(range)),
        };
        all.extend((first..=last).step_by(step.parse().expect("a number")));
    }
    all
}

/// A pattern, read by the book.
#[expect(clippy::struct_excessive_bools, reason = "five fields and what cron makes of stars in them")]
struct Pattern {
    minutes: BTreeSet<i8>,
    hours: BTreeSet<i8>,
    days: BTreeSet<i8>,
    last_day: bool,
    months: BTreeSet<i8>,
    weekdays: BTreeSet<i8>,
    any_day: bool,
    any_weekday: bool,
    by_real_time: bool,
}

impl Pattern {
    fn read(text: &str) -> Self {
        const MONTHS: [&str; 12] =
            ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
        const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
        let f: Vec<&str> = text.split(' ').collect();
        let last_day = f[2] == "L";
        Self {
            minutes: numbers(f[0], &[], 0, 59),
            hours: numbers(f[1], &[], 0, 23),
            days: if last_day { BTreeSet::new() } else { numbers(f[2], &[], 1, 31) },
            last_day,
            months: numbers(f[3], &MONTHS, 1, 12),
            weekdays: numbers(f[4], &DAYS, 0, 6),
            any_day: f[2] == "*",
            any_weekday: f[4] == "*",
            by_real_time: f[1].starts_with('*'),
        }
    }

    fn names(&self, wall: DateTime) -> bool {
        if !self.minutes.contains(&wall.minute()) || !self.hours.contains(&wall.hour()) {
            return false;
        }
        let day = self.days.contains(&wall.day()) || (self.last_day && wall.day() == wall.days_in_month());
        let weekday = self.weekdays.contains(&wall.weekday().to_sunday_zero_offset());
        let is_day = match (self.any_day, self.any_weekday) {
            (true, _) => weekday,
            (_, true) => day,
            // Both named: either will do.
            _ => day || weekday,
        };
        is_day && self.months.contains(&wall.month())
    }
}

/// The moments at which each pattern must fire in a zone, found minute by minute.
fn expected(zone: &str, patterns: &[Pattern]) -> Vec<Vec<Timestamp>> {
    let (zone, minute) = (TimeZone::get(zone).expect("a zone"), SignedDuration::from_mins(1));
    let (mut now, end) = (at(FROM), at(TO));
    // The furthest that the wall clock has been.
    let mut furthest = zone.to_datetime(now);
    let mut moments = vec![Vec::new(); patterns.len()];
    loop {
        now += minute;
        if now >= end {
            return moments;
        }
        let wall = zone.to_datetime(now);
        let mut fresh = Vec::new();
        while furthest < wall {
            furthest += Span::new().minutes(1);
            fresh.push(furthest);
        }
        for (pattern, moments) in patterns.iter().zip(&mut moments) {
            // By real time whatever the wall clock shows now; else what it shows, or jumped over, for the first time.
            let fires = if pattern.by_real_time {
                pattern.names(wall)
            } else {
                fresh.iter().any(|wall| pattern.names(*wall))
            };
            if fires {
                moments.push(now);
            }
        }
    }
}

/// Lets the clock run for a year, with a scheduler that looks a little late, each time differently.
fn simulated(cron: &str, zone: &str) -> Vec<Timestamp> {
    let (mut schedule, end) = (schedule(cron, zone), at(TO));
    let (mut moments, mut lateness_s) = (Vec::new(), 0);
    while let Some(next) = schedule.next_at().filter(|next| *next < end) {
        let before = next - SignedDuration::from_millis(1);
        assert_eq!(schedule.turn(before), None, "{cron} in {zone} fires too early");
        lateness_s = (lateness_s * 7 + 13) % 59;
        let turn = schedule.turn(next + SignedDuration::from_secs(lateness_s));
        assert_eq!(turn, Some(Turn::Run { planned_at: next, missed: 0 }), "{cron} in {zone}");
        assert_eq!(schedule.turn(next + SignedDuration::from_secs(lateness_s)), None, "{cron} fires twice");
        moments.push(next);
    }
    moments
}

fn a_year_in(zone: &str) {
    let patterns: Vec<Pattern> = PATTERNS.iter().map(|text| Pattern::read(text)).collect();
    for (cron, expected) in PATTERNS.iter().zip(expected(zone, &patterns)) {
        let found = simulated(cron, zone);
        let differ = expected.iter().zip(&found).find(|(expected, found)| expected != found);
        assert!(differ.is_none(), "{cron} in {zone}: expected and found are {differ:?}");
        assert_eq!(expected.len(), found.len(), "{cron} in {zone}");
        assert!(!found.is_empty(), "{cron} in {zone} never fired");
    }
}

#[test]
fn a_year_in_taipei_which_has_no_summer_time() {
    a_year_in(ZONES[0]);
}

#[test]
fn a_year_in_berlin() {
    a_year_in(ZONES[1]);
}

#[test]
fn a_year_in_new_york() {
    a_year_in(ZONES[2]);
}

#[test]
fn a_year_on_lord_howe_whose_summer_time_is_half_an_hour() {
    a_year_in(ZONES[3]);
}

#[test]
fn a_year_in_utc() {
    a_year_in(ZONES[4]);
}

/// The preview is what happens: asked at any moment of the year, it names the runs that come.
#[test]
fn the_preview_is_what_happens() {
    for zone in ZONES {
        for cron in PATTERNS {
            let all = simulated(cron, zone);
            let mut schedule = schedule(cron, zone);
            for (number, next) in all.iter().enumerate().take(200) {
                let preview = schedule.upcoming(10);
                let coming = &all[number..all.len().min(number + 10)];
                assert_eq!(&preview[..coming.len()], coming, "{cron} in {zone}");
                schedule.turn(*next);
            }
        }
    }
}

/// Down at any time for any while: by its policy one run or none, and then on as if nothing had been.
#[test]
fn down_over_firings_it_keeps_its_policy() {
    for zone in ZONES {
        for cron in PATTERNS {
            let all = simulated(cron, zone);
            for policy in [Missed::RunOnce, Missed::Skip] {
                let mut schedule = schedule(cron, zone);
                schedule.plan.missed = policy;
                let mut step = 0;
                let mut number = 0;
                while number < all.len().min(300) {
                    // Up for one firing, down for the next few, up again 40 minutes after the last of them.
                    step = (step * 5 + 3) % 7;
                    let back = (number + step).min(all.len() - 1);
                    let now = all[back] + SignedDuration::from_mins(40);
                    let due: Vec<Timestamp> =
                        all[number..].iter().copied().take_while(|at| *at <= now).collect();
                    let (last, missed) = (due[due.len() - 1], due.len() as u32 - 1);
                    let late = now.duration_since(last) > SignedDuration::from_mins(1);
                    let expected = match policy {
                        Missed::Skip if late => Turn::Missed { planned_at: last, missed: missed + 1 },
                        _ => Turn::Run { planned_at: last, missed },
                    };
                    assert_eq!(schedule.turn(now), Some(expected), "{cron} in {zone}");
                    assert_eq!(schedule.turn(now), None);
                    number += due.len();
                }
            }
        }
    }
}

#[test]
fn weekdays_are_read_as_cron_reads_them() {
    let next = schedule("0 9 * * 1", "UTC").next_at().unwrap().to_zoned(TimeZone::UTC);
    assert_eq!(next.weekday(), Weekday::Monday);
    assert_eq!(schedule("0 9 * * 7", "UTC").next_at(), schedule("0 9 * * 0", "UTC").next_at());
}
