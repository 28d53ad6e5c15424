//! The world's own ledger: what ran when, at which price, and what was stored meanwhile, in whole numbers. It knows nothing
//! of the store's stretches, sheets and rates; what it comes to is compared with the store's reports to the last decimal.

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use mothball_domain::billing::{Cut, Span, Usage, report};
use mothball_domain::id::ContainerId;
use mothball_store::Ledger as Sheets;
use rust_decimal::Decimal;
use std::collections::BTreeMap;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Hours of the month that storage is priced by.
const MONTH_HOURS: i64 = 730;
/// Prices are whole numbers of ten-thousandths.
pub(crate) const PRICE_SCALE: u32 = 4;

/// Something that was paid for, or spared.
#[derive(Debug, Clone)]
struct Entry {
    from_ms: i64,
    to_ms: Option<i64>,
    /// Ten-thousandths an hour.
    price: i64,
    flavor: String,
    /// Bytes, and the ten-thousandths that a gigabyte of them costs a month: it was parked.
    stored: Option<(u64, i64)>,
}

/// All that one container came to.
#[derive(Debug)]
struct Life {
    project: String,
    user: String,
    entries: Vec<Entry>,
}

/// What some entries come to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sums {
    billed_ms: i64,
    parked_ms: i64,
    billed: i128,
    spared: i128,
    stored: i128,
    bytes_ms: i128,
}

/// What the world has seen.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    lives: BTreeMap<ContainerId, Life>,
}

/// What a report is cut by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Container,
    User,
    Project,
    Flavor,
    /// Days of a zone that is so many hours east of Greenwich all year.
    DayEast(i64),
    /// Days of Berlin, whose clocks changed in 2026 on 29 March and 25 October at one o'clock UTC.
    DayInBerlin,
}

impl By {
    pub(crate) const ALL: [Self; 6] =
        [Self::Container, Self::User, Self::Project, Self::Flavor, Self::DayEast(8), Self::DayInBerlin];

    fn cut(self) -> Result<Cut> {
        use jiff::tz::{TimeZone, offset};
        let none = Cut::default();
        Ok(match self {
            Self::Container => Cut { container: true, ..none },
            Self::User => Cut { user: true, ..none },
            Self::Project => Cut { project: true, ..none },
            Self::Flavor => Cut { flavor: true, ..none },
            Self::DayEast(hours) => Cut { days_of: Some(TimeZone::fixed(offset(hours as i8))), ..none },
            Self::DayInBerlin => Cut { days_of: Some(TimeZone::get("Europe/Berlin")?), ..none },
        })
    }

    /// The milliseconds that a zone is ahead at a moment, and the next moment at which that may change.
    fn ahead(self, at_ms: i64) -> (i64, i64) {
        /// 2026-03-29T01:00:00Z and 2026-10-25T01:00:00Z.
        const SUMMER_MS: (i64, i64) = (1_774_746_000_000, 1_792_890_000_000);
        match self {
            Self::DayEast(hours) => (hours * HOUR_MS, i64::MAX),
            _ if at_ms < SUMMER_MS.0 => (HOUR_MS, SUMMER_MS.0),
            _ if at_ms < SUMMER_MS.1 => (2 * HOUR_MS, SUMMER_MS.1),
            _ => (HOUR_MS, i64::MAX),
        }
    }
}

impl Ledger {
    pub(crate) fn is_new(&mut self, id: ContainerId, project: &str, user: &str) {
        let life = Life { project: project.to_owned(), user: user.to_owned(), entries: Vec::new() };
        self.lives.insert(id, life);
    }

    /// It runs from now on, at this price.
    pub(crate) fn runs(&mut self, id: ContainerId, at_ms: i64, flavor: &str, price: i64) -> Result<()> {
        self.begins(id, at_ms, flavor, price, None)
    }

    /// It is parked from now on; what it would have cost to run is spared.
    pub(crate) fn is_parked(&mut self, id: ContainerId, at_ms: i64, bytes: u64, price: i64) -> Result<()> {
        let last = self.life(id)?.entries.last().context("parked before it ran")?.clone();
        self.begins(id, at_ms, &last.flavor, last.price, Some((bytes, price)))
    }

    /// It neither runs nor is parked from now on.
    pub(crate) fn ends(&mut self, id: ContainerId, at_ms: i64) -> Result<()> {
        if let Some(last) = self.life(id)?.entries.last_mut() {
            last.to_ms.get_or_insert(at_ms);
        }
        Ok(())
    }

    /// Since when it runs.
    pub(crate) fn running_since(&self, id: ContainerId) -> Option<i64> {
        let last = self.lives.get(&id)?.entries.last()?;
        (last.to_ms.is_none() && last.stored.is_none()).then_some(last.from_ms)
    }

    /// What a project has cost from one moment to another.
    pub(crate) fn cost(&self, project: &str, from_ms: i64, to_ms: i64) -> Decimal {
        let sums = self.sums(By::Project, from_ms, to_ms, to_ms);
        sums.get(project).map_or(Decimal::ZERO, Sums::cost)
    }

    fn life(&mut self, id: ContainerId) -> Result<&mut Life> {
        self.lives.get_mut(&id).with_context(|| format!("the world knows no container {id}"))
    }

    fn begins(
        &mut self,
        id: ContainerId,
        at_ms: i64,
        flavor: &str,
        price: i64,
        stored: Option<(u64, i64)>,
    ) -> Result<()> {
        self.ends(id, at_ms)?;
        let flavor = flavor.to_owned();
        self.life(id)?.entries.push(Entry { from_ms: at_ms, to_ms: None, price, flavor, stored });
        Ok(())
    }

    fn sums(&self, by: By, from_ms: i64, to_ms: i64, now_ms: i64) -> BTreeMap<String, Sums> {
        let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
        for (id, life) in &self.lives {
            for entry in &life.entries {
                let (from, to) = (entry.from_ms.max(from_ms), entry.to_ms.unwrap_or(now_ms).min(to_ms));
                let mut add =
                    |key: String, lasted_ms: i64| sums.entry(key).or_default().add(entry, lasted_ms);
                match by {
                    _ if from >= to => {}
                    By::Container => add(id.to_string(), to - from),
                    By::User => add(life.user.clone(), to - from),
                    By::Project => add(life.project.clone(), to - from),
                    By::Flavor => add(entry.flavor.clone(), to - from),
                    By::DayEast(_) | By::DayInBerlin => by_day(by, from, to, &mut add),
                }
            }
        }
        sums
    }

    /// Compares a report of the store's sheets with what the world has seen, row by row.
    pub(crate) fn check(&self, sheets: &Sheets, from: Timestamp, to: Timestamp) -> Result<()> {
        let (from_ms, to_ms, now_ms) =
            (from.as_millisecond(), to.as_millisecond(), sheets.now.as_millisecond());
        for by in By::ALL {
            let expected = self.sums(by, from_ms, to_ms, now_ms);
            let mut reported = BTreeMap::new();
            for (key, usage) in report(&sheets.sheets, Span { from, to }, sheets.now, &by.cut()?) {
                let name = match by {
                    By::Container => key.container.map(|c| c.to_string()),
                    By::User => key.user.map(|u| u.to_string()),
                    By::Project => key.project.map(|p| p.to_string()),
                    By::Flavor => key.flavor.map(|f| f.to_string()),
                    By::DayEast(_) | By::DayInBerlin => key.day.map(|day| day.to_string()),
                };
                reported.insert(name.context("a row without its name")?, usage);
            }
            let names = |all: Vec<&String>| all.into_iter().cloned().collect::<Vec<String>>();
            let (ours, theirs) = (names(expected.keys().collect()), names(reported.keys().collect()));
            ensure!(ours == theirs, "by {by:?}: the report has rows for {theirs:?}, the ledger for {ours:?}");
            for (name, sums) in &expected {
                sums.check(&reported[name]).with_context(|| format!("by {by:?}, {name}, {from} to {to}"))?;
            }
        }
        Ok(())
    }

    /// Compares what a container's own record says that it has come to.
    pub(crate) fn check_life(&self, id: ContainerId, usage: &Usage, now_ms: i64) -> Result<()> {
        let life = self.lives.get(&id).context("an unknown container")?;
        let mut sums = Sums::default();
        for entry in &life.entries {
            sums.add(entry, entry.to_ms.unwrap_or(now_ms) - entry.from_ms);
        }
        sums.check(usage).with_context(|| format!("the record of container {id}"))
    }
}

/// Cuts a piece of time by the days of a zone, counted from 1970 by hand.
fn by_day(by: By, from_ms: i64, to_ms: i64, add: &mut impl FnMut(String, i64)) {
    let mut at = from_ms;
    while at < to_ms {
        let (ahead, changes_at) = by.ahead(at);
        let day = (at + ahead).div_euclid(DAY_MS);
        let until = ((day + 1) * DAY_MS - ahead).min(changes_at).min(to_ms);
        add(date(day), until - at);
        at = until;
    }
}

/// The date of a day after 1970-01-01, by the rule of the Gregorian calendar.
fn date(day: i64) -> String {
    let (mut year, mut left) = (1970, day);
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while left >= 365 + i64::from(is_leap(year)) {
        left -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for days in [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < days {
            break;
        }
        left -= days;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", left + 1)
}

impl Sums {
    fn add(&mut self, entry: &Entry, lasted_ms: i64) {
        let time = i128::from(lasted_ms);
        match entry.stored {
            None => {
                self.billed_ms += lasted_ms;
                self.billed += time * i128::from(entry.price);
            }
            Some((bytes, price)) => {
                self.parked_ms += lasted_ms;
                self.spared += time * i128::from(entry.price);
                self.bytes_ms += time * i128::from(bytes);
                self.stored += time * i128::from(bytes) * i128::from(price);
            }
        }
    }

    fn cost(&self) -> Decimal {
        let price_ms = Decimal::from_i128_with_scale(self.billed, PRICE_SCALE);
        (price_ms / Decimal::from(HOUR_MS)).normalize()
    }

    fn storage_cost(&self) -> Decimal {
        let price_ms = Decimal::from_i128_with_scale(self.stored, PRICE_SCALE + 9);
        (price_ms / Decimal::from(HOUR_MS * MONTH_HOURS)).normalize()
    }

    fn check(&self, usage: &Usage) -> Result<()> {
        let times = (usage.billed_ms, usage.parked_ms);
        ensure!(times == (self.billed_ms, self.parked_ms), "{times:?} ms, and the ledger has {self:?}");
        ensure!(usage.cost() == self.cost(), "it costs {}, and by the ledger {}", usage.cost(), self.cost());
        let (stored, ours) = (usage.storage_cost(), self.storage_cost());
        ensure!(stored == ours, "its storage costs {stored}, and by the ledger {ours}");
        let spared = Decimal::from_i128_with_scale(self.spared, PRICE_SCALE) / Decimal::from(HOUR_MS);
        let (avoided, ours) = (usage.avoided(), (spared - self.storage_cost()).normalize());
        ensure!(avoided == ours, "parking has saved {avoided}, and by the ledger {ours}");
        let bytes_ms = Decimal::from_i128_with_scale(self.bytes_ms, 9);
        let ours = (bytes_ms / Decimal::from(HOUR_MS * MONTH_HOURS)).normalize();
        ensure!(usage.gigabyte_months() == ours, "{} gigabyte-months, not {ours}", usage.gigabyte_months());
        Ok(())
    }
}
