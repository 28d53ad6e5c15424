//! Reports against tables made by hand, and the sum of the parts against the whole.

use super::*;
use crate::billing::{Line, Rate, Stored};
use proptest::prelude::*;
use rust_decimal::Decimal;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn rate(flavor: &str, price: &str) -> Rate {
    Rate { flavor: FlavorName::new(flavor).unwrap(), price_per_hour: price.parse().unwrap() }
}

fn sheet(number: u64, project: &str, user: &str, lines: Vec<Line>) -> Sheet {
    Sheet {
        container: ContainerId(number),
        name: format!("box{number}").parse().unwrap(),
        project: project.parse().unwrap(),
        user: user.parse().unwrap(),
        lines,
    }
}

fn ran(from: &str, to: Option<&str>, rate: Rate) -> Line {
    Line { from: at(from), to: to.map(at), rate, stored: None }
}

fn parked(from: &str, to: Option<&str>, rate: Rate, bytes: u64) -> Line {
    let stored = Stored { bytes, price_per_gb_month: "0.73".parse().unwrap() };
    Line { stored: Some(stored), ..ran(from, to, rate) }
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

const NOVEMBER: (&str, &str) = ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");

fn november() -> Span {
    Span { from: at(NOVEMBER.0), to: at(NOVEMBER.1) }
}

/// A container of two nights: run, parked, woken larger, still there.
fn night_owl() -> Sheet {
    let small = || rate("c.super", "58");
    sheet(
        7,
        "lab",
        "ann",
        vec![
            ran("2026-10-31T22:00:00Z", Some("2026-11-01T10:00:00Z"), small()),
            parked("2026-11-01T10:00:00Z", Some("2026-11-02T10:00:00Z"), small(), 10_000_000_000),
            ran("2026-11-02T10:00:00Z", None, rate("c.xsuper", "116")),
        ],
    )
}

#[test]
fn a_report_is_what_a_hand_would_write() {
    let sheets = [night_owl()];
    let now = at("2026-11-02T12:30:00Z");
    let cut = Cut { container: true, days_of: Some(TimeZone::UTC), ..Cut::default() };
    let rows: Vec<[String; 5]> = report(&sheets, november(), now, &cut)
        .into_iter()
        .map(|(key, usage)| {
            [
                key.day.unwrap().to_string(),
                usage.seconds().to_string(),
                usage.cost().to_string(),
                usage.avoided().to_string(),
                usage.storage_cost().to_string(),
            ]
        })
        .collect();
    // 10 GB at 0.73 a month are 0.01 an hour. Parked 14 hours of the first day: 14 x 58 - 0.14.
    let expected =
        [["2026-11-01", "36000", "580", "811.86", "0.14"], ["2026-11-02", "9000", "290", "579.9", "0.1"]];
    assert_eq!(rows, expected);
}

#[test]
fn a_wake_with_another_flavor_changes_the_price_from_then_on() {
    let cut = Cut { flavor: true, ..Cut::default() };
    let rows = report(&[night_owl()], november(), at("2026-11-02T11:00:00Z"), &cut);
    let costs: Vec<(String, String)> = rows
        .iter()
        .map(|(key, usage)| (key.flavor.clone().unwrap().to_string(), usage.cost().to_string()))
        .collect();
    assert_eq!(costs, [("c.super".into(), "580".into()), ("c.xsuper".to_owned(), "116".to_owned())]);
}

#[test]
fn days_are_those_of_the_zone() {
    let sheets =
        [sheet(1, "p", "u", vec![ran("2026-11-01T15:00:00Z", Some("2026-11-01T17:00:00Z"), rate("f", "1"))])];
    let cut = Cut { days_of: Some(zone("Asia/Taipei")), ..Cut::default() };
    let rows = report(&sheets, november(), at(NOVEMBER.1), &cut);
    let days: Vec<(String, String)> =
        rows.iter().map(|(key, usage)| (key.day.unwrap().to_string(), usage.seconds().to_string())).collect();
    assert_eq!(days, [("2026-11-01".into(), "3600".into()), ("2026-11-02".to_owned(), "3600".to_owned())]);
}

#[test]
fn days_have_23_or_25_hours_when_the_clocks_change() {
    for (name, day, hours) in [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        // The clocks jump at midnight itself: the day begins at one.
        ("Africa/Cairo", "2026-04-24", 23),
        ("Africa/Cairo", "2026-10-29", 25),
        ("Asia/Taipei", "2026-03-29", 24),
    ] {
        let year = Span { from: at("2026-01-01T00:00:00Z"), to: at("2027-01-01T00:00:00Z") };
        let sheets = [sheet(
            1,
            "p",
            "u",
            vec![Line { from: year.from, to: None, rate: rate("f", "1"), stored: None }],
        )];
        let cut = Cut { days_of: Some(zone(name)), ..Cut::default() };
        let rows = report(&sheets, year, year.to, &cut);
        let key = Key { day: Some(day.parse().unwrap()), ..Key::default() };
        assert_eq!(rows[&key].seconds(), Decimal::from(hours * 3600), "{day} in {name}");
        let whole: Usage = rows.into_values().sum();
        assert_eq!(whole.seconds(), Decimal::from(365 * 86_400));
    }
    // A day that a zone left out has no row.
    let span = Span { from: at("2011-12-28T00:00:00Z"), to: at("2012-01-02T00:00:00Z") };
    let sheets =
        [sheet(1, "p", "u", vec![Line { from: span.from, to: None, rate: rate("f", "1"), stored: None }])];
    let cut = Cut { days_of: Some(zone("Pacific/Apia")), ..Cut::default() };
    let days: Vec<String> =
        report(&sheets, span, span.to, &cut).keys().map(|key| key.day.unwrap().to_string()).collect();
    assert!(days.contains(&"2011-12-29".into()) && !days.contains(&"2011-12-30".into()), "{days:?}");
}

#[test]
fn what_lies_outside_of_the_span_or_ran_back_is_not_counted() {
    let lines = vec![
        ran("2026-10-01T00:00:00Z", Some("2026-10-02T00:00:00Z"), rate("f", "1")),
        ran("2026-12-01T00:00:00Z", None, rate("f", "1")),
        ran("2026-11-05T00:00:00Z", Some("2026-11-04T00:00:00Z"), rate("f", "1")),
    ];
    let whole = Cut { container: true, ..Cut::default() };
    assert!(report(&[sheet(1, "p", "u", lines)], november(), at("2027-01-01T00:00:00Z"), &whole).is_empty());
}

/// Stretches of a container, one after the other, the last one perhaps open, at odd prices and sizes.
fn some_sheets() -> impl Strategy<Value = Vec<Sheet>> {
    let stretch = (
        1..4_000_000_000i64,
        0..10_000_000i64,
        0..100_000u64,
        0..4u32,
        any::<bool>(),
        0..5_000_000_000_000u64,
    );
    let one = (0..3usize, 0..3usize, proptest::collection::vec(stretch, 0..8), any::<bool>());
    proptest::collection::vec(one, 1..8).prop_map(|containers| {
        let begin_ms = at("2026-10-20T00:00:00Z").as_millisecond();
        let make = |(number, (project, user, stretches, open)): (usize, (usize, usize, Vec<_>, bool))| {
            let mut at_ms = begin_ms;
            let count = stretches.len();
            let line = |(index, (lasts_ms, gap_ms, price, scale, is_parked, bytes)): (
                usize,
                (_, _, u64, _, bool, _),
            )| {
                let price = Decimal::new(price.cast_signed(), scale);
                let from_ms = at_ms + gap_ms;
                at_ms = from_ms + lasts_ms;
                let time = |ms| Timestamp::from_millisecond(ms).unwrap();
                Line {
                    from: time(from_ms),
                    to: (index + 1 < count || !open).then(|| time(at_ms)),
                    rate: Rate { flavor: format!("f{}", index % 2).parse().unwrap(), price_per_hour: price },
                    stored: is_parked.then_some(Stored { bytes, price_per_gb_month: Decimal::new(73, 3) }),
                }
            };
            let lines = stretches.into_iter().enumerate().map(line).collect();
            sheet(number as u64, &format!("p{project}"), &format!("u{user}"), lines)
        };
        containers.into_iter().enumerate().map(make).collect()
    })
}

proptest! {
    /// However it is cut, in whatever zone, the parts are the whole, exactly; and no part is below nothing.
    #[test]
    fn parts_add_up_to_the_whole(
        sheets in some_sheets(),
        by in any::<[bool; 4]>(),
        zone_name in proptest::option::of(prop_oneof!["UTC", "Asia/Taipei", "Europe/Berlin", "America/New_York", "Africa/Cairo"]),
        now_s in 0..6_000_000i64,
    ) {
        let now = Timestamp::from_second(at("2026-10-20T00:00:00Z").as_second() + now_s).unwrap();
        let whole: Usage = report(&sheets, november(), now, &Cut::default()).into_values().sum();
        let [container, user, project, flavor] = by;
        let cut = Cut { container, user, project, flavor, days_of: zone_name.as_deref().map(zone) };
        let rows = report(&sheets, november(), now, &cut);
        for usage in rows.values() {
            prop_assert!(usage.billed_ms >= 0 && usage.parked_ms >= 0 && !usage.is_empty());
            prop_assert!(usage.cost() >= Decimal::ZERO && usage.storage_cost() >= Decimal::ZERO);
        }
        let parts: Usage = rows.into_values().sum();
        prop_assert_eq!(parts, whole);
        // Two halves of a time are the time.
        let middle = Timestamp::from_second(at("2026-11-11T00:00:00Z").as_second() + now_s % 777).unwrap();
        let half = |from, to| report(&sheets, Span { from, to }, now, &Cut::default()).into_values().sum::<Usage>();
        let mut halves = half(november().from, middle);
        halves += half(middle, november().to);
        prop_assert_eq!(halves, whole);
    }
}
