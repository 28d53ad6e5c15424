//! Usage of a span of time, cut as somebody wants to see it.

use super::sheet::Sheet;
use super::usage::Usage;
use crate::id::ContainerId;
use crate::name::{FlavorName, ProjectName, UserName};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::str::FromStr;

/// What usage is cut by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Each container.
    Container,
    /// Each user.
    User,
    /// Each project.
    Project,
    /// Each flavor.
    Flavor,
    /// Each day of a time zone.
    Day,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Container, Self::User, Self::Project, Self::Flavor, Self::Day];

    /// As it stands in queries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::User => "user",
            Self::Project => "project",
            Self::Flavor => "flavor",
            Self::Day => "day",
        }
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|by| by.as_str() == text);
        found
            .ok_or_else(|| "by is container, user, project, flavor or day, or several with commas".to_owned())
    }
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end, which is not part of it.
    pub to: Timestamp,
}

/// How a report is cut: by what, and in which time zone days begin.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says whether there are rows for one thing")]
pub struct Cut {
    /// A row for each container.
    pub container: bool,
    /// A row for each user.
    pub user: bool,
    /// A row for each project.
    pub project: bool,
    /// A row for each flavor.
    pub flavor: bool,
    /// A row for each day that begins and ends in this zone; none for the span as a whole.
    pub days_of: Option<TimeZone>,
}

/// What a row of a report is about: what it was cut by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Key {
    /// The project.
    pub project: Option<ProjectName>,
    /// The user.
    pub user: Option<UserName>,
    /// The container.
    pub container: Option<ContainerId>,
    /// The flavor.
    pub flavor: Option<FlavorName>,
    /// The day.
    pub day: Option<Date>,
}

impl Cut {
    fn key(&self, sheet: &Sheet, flavor: &FlavorName, day: Option<Date>) -> Key {
        Key {
            project: self.project.then(|| sheet.project.clone()),
            user: self.user.then(|| sheet.user.clone()),
            container: self.container.then_some(sheet.container),
            flavor: self.flavor.then(|| flavor.clone()),
            day,
        }
    }
}

/// What is in the sheets of `span`, cut. What lasts is counted until `now`. A sheet is looked at once, and rows without
/// any time are left out.
pub fn report<'a>(
    sheets: impl IntoIterator<Item = &'a Sheet>,
    span: Span,
    now: Timestamp,
    cut: &Cut,
) -> BTreeMap<Key, Usage> {
    let days = cut.days_of.as_ref().map(|zone| days(span, zone));
    let mut rows: BTreeMap<Key, Usage> = BTreeMap::new();
    for sheet in sheets {
        for line in &sheet.lines {
            let from = line.from.max(span.from);
            let to = line.to.unwrap_or(now).min(span.to);
            let mut count = |day, from: Timestamp, to: Timestamp| {
                let lasted_ms = to.as_millisecond().saturating_sub(from.as_millisecond());
                if lasted_ms > 0 {
                    let part = Usage::of(lasted_ms, &line.rate, line.stored.as_ref());
                    *rows.entry(cut.key(sheet, &line.rate.flavor, day)).or_default() += part;
                }
            };
            match &days {
                None => count(None, from, to),
                Some(days) => {
                    let first = days.partition_point(|day| day.to <= from);
                    for day in days[first..].iter().take_while(|day| day.from < to) {
                        count(Some(day.date), from.max(day.from), to.min(day.to));
                    }
                }
            }
        }
    }
    rows
}

struct Day {
    date: Date,
    from: Timestamp,
    to: Timestamp,
}

/// The days of a span, the first and the last as far as they lie in it. They have 23 or 25 hours when the clocks change.
fn days(span: Span, zone: &TimeZone) -> Vec<Day> {
    let mut days = Vec::new();
    let mut from = span.from;
    let mut date = span.from.to_zoned(zone.clone()).date();
    while from < span.to {
        let Some(next) = date.tomorrow().ok() else { break };
        // Midnight, or the first moment after it where the clocks jump over it.
        let begins = next.to_zoned(zone.clone()).map_or(span.to, |zoned| zoned.timestamp());
        let to = begins.min(span.to);
        // A day that a zone left out altogether has no time in it.
        if to > from {
            days.push(Day { date, from, to });
            from = to;
        }
        date = next;
    }
    days
}

#[cfg(test)]
mod tests;
