//! What a caller asks of a cost report.

use super::month_of;
use crate::access::shortened;
use crate::v1::views::Problem;
use axum::http::{HeaderMap, header};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use mothball_domain::billing::{By, Cut, Span};
use mothball_domain::name::UserName;
use serde::Deserialize;
use utoipa::IntoParams;

/// Rows of a page when none are asked for, and at most.
const ROWS_DEFAULT: usize = 1000;
const ROWS_MAX: usize = 10_000;
/// Longest report that is cut by days.
const DAYS_MAX: i64 = 1100;

/// A cost report: how it is cut, and of when.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CostQuery {
    /// What it is cut by: `container` (when absent), `user`, `project`, `flavor`, `day`, or several with commas.
    by: Option<String>,
    /// The first day (`YYYY-MM-DD`), or a time; the beginning of this month when absent.
    from: Option<String>,
    /// The last day, which is part of the report, or a time, which is not; the end of this month when absent.
    to: Option<String>,
    /// The time zone that days begin and end in, as in `Asia/Taipei`; UTC when absent.
    tz: Option<String>,
    /// Only this user's containers.
    user: Option<String>,
    /// `json` (when absent) or `csv`.
    format: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many rows at most; 1000 when absent, 10000 at most.
    limit: Option<String>,
}

/// How a report is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
}

/// The same, read and checked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) cut: Cut,
    pub(super) span: Span,
    pub(super) zone: TimeZone,
    pub(super) zone_name: String,
    pub(super) user: Option<UserName>,
    pub(super) format: Format,
    pub(super) cursor: Option<String>,
    pub(super) limit: usize,
}

impl Asked {
    pub(super) fn read(query: &CostQuery, headers: &HeaderMap, now: Timestamp) -> Result<Self, Problem> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let zone_name = given(&query.tz).unwrap_or_else(|| "UTC".to_owned());
        let zone = TimeZone::get(&zone_name).map_err(|_| {
            let why = format!("{:?} is not a time zone", shortened(&zone_name));
            Problem::invalid("tz", why).with_hint("Write a name of the IANA list, as in Asia/Taipei.")
        })?;
        let format = format(given(&query.format).as_deref(), headers)?;
        let span = span(given(&query.from).as_deref(), given(&query.to).as_deref(), now, &zone)?;
        let cut = cut(given(&query.by).as_deref(), format, &zone)?;
        let seconds = span.to.as_second() - span.from.as_second();
        if cut.days_of.is_some() && seconds > DAYS_MAX * 86_400 {
            let why = format!("a report by days is of at most {DAYS_MAX} days");
            return Err(Problem::invalid("from", why));
        }
        let user = given(&query.user).map(|user| user.parse::<UserName>()).transpose();
        Ok(Self {
            cut,
            span,
            zone,
            zone_name,
            user: user.map_err(|why| Problem::invalid("user", why))?,
            format,
            cursor: given(&query.cursor),
            limit: limit(given(&query.limit).as_deref())?,
        })
    }
}

fn format(asked: Option<&str>, headers: &HeaderMap) -> Result<Format, Problem> {
    match asked {
        Some("csv") => Ok(Format::Csv),
        Some("json") => Ok(Format::Json),
        Some(_) => Err(Problem::invalid("format", "format is json or csv")),
        None => {
            let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
            let wants_csv =
                accept.split(',').any(|kind| kind.split(';').next().unwrap_or("").trim() == "text/csv");
            Ok(if wants_csv { Format::Csv } else { Format::Json })
        }
    }
}

/// A charge in FOCUS columns lies within a day, and names what it is for unless that is not wanted.
fn cut(by: Option<&str>, format: Format, zone: &TimeZone) -> Result<Cut, Problem> {
    let finest = "project,user,container,flavor";
    let by = by.unwrap_or(if format == Format::Csv { finest } else { By::Container.as_str() });
    let mut cut = Cut::default();
    for by in by.split(',').map(str::trim) {
        match by.parse::<By>().map_err(|why| Problem::invalid("by", why))? {
            By::Container => cut.container = true,
            By::User => cut.user = true,
            By::Project => cut.project = true,
            By::Flavor => cut.flavor = true,
            By::Day => cut.days_of = Some(zone.clone()),
        }
    }
    if format == Format::Csv {
        cut.days_of = Some(zone.clone());
    }
    Ok(cut)
}

fn span(from: Option<&str>, to: Option<&str>, now: Timestamp, zone: &TimeZone) -> Result<Span, Problem> {
    let unknown = || Problem::invalid("tz", "this time zone has no such month");
    let (first, next) = month_of(now, zone).ok_or_else(unknown)?;
    let from = from.map(|text| moment("from", text, zone, false)).transpose()?.unwrap_or(first);
    let to = to.map(|text| moment("to", text, zone, true)).transpose()?.unwrap_or(next.max(from));
    if to <= from {
        return Err(Problem::invalid("to", "the report ends before it begins"));
    }
    Ok(Span { from, to })
}

/// A time; or a day: its beginning, or its end.
fn moment(field: &str, text: &str, zone: &TimeZone, ends: bool) -> Result<Timestamp, Problem> {
    let bad = || {
        let why = format!("{field} is a day, as in 2026-11-30, or a time, as in 2026-11-30T12:00:00Z");
        Problem::invalid(field, why)
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    // Of a longer text jiff would take the date and leave the rest.
    let day: Date = if text.len() == 10 { text.parse().map_err(|_| bad())? } else { return Err(bad()) };
    let day = if ends { day.tomorrow().map_err(|_| bad())? } else { day };
    day.to_zoned(zone.clone()).map(|zoned| zoned.timestamp()).map_err(|_| bad())
}

fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(ROWS_DEFAULT) };
    let good = text.parse().ok().filter(|limit| (1..=ROWS_MAX).contains(limit));
    good.ok_or_else(|| Problem::invalid("limit", format_args!("limit is a number from 1 to {ROWS_MAX}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &CostQuery) -> Result<Asked, Problem> {
        Asked::read(query, &HeaderMap::new(), "2026-11-15T20:00:00Z".parse().unwrap())
    }

    fn shown(span: Span) -> (String, String) {
        (span.from.to_string(), span.to.to_string())
    }

    #[test]
    fn a_report_is_of_this_month_unless_it_says_otherwise() {
        let utc = asked(&CostQuery::default()).unwrap();
        assert_eq!(shown(utc.span), ("2026-11-01T00:00:00Z".into(), "2026-12-01T00:00:00Z".into()));
        assert!(utc.cut.container && utc.cut.days_of.is_none() && utc.format == Format::Json);
        let taipei = asked(&CostQuery { tz: Some("Asia/Taipei".into()), ..CostQuery::default() }).unwrap();
        assert_eq!(shown(taipei.span), ("2026-10-31T16:00:00Z".into(), "2026-11-30T16:00:00Z".into()));
    }

    #[test]
    fn the_last_day_is_part_of_it_and_a_last_time_is_not() {
        let of = |from, to| {
            asked(&CostQuery { from, to, tz: Some("Europe/Berlin".into()), ..CostQuery::default() })
        };
        let days = of(Some("2026-10-25".into()), Some("2026-10-25".into())).unwrap();
        assert_eq!(shown(days.span), ("2026-10-24T22:00:00Z".into(), "2026-10-25T23:00:00Z".into()));
        let times = of(Some("2026-10-25T01:00:00Z".into()), Some("2026-10-25T02:00:00+01:00".into()));
        assert_eq!(times.unwrap_err().field.as_deref(), Some("to"), "they are the same moment");
        let times = of(Some("2026-10-25T01:00:00Z".into()), Some("2026-10-25T02:00:01Z".into())).unwrap();
        assert_eq!(times.span.to.as_second() - times.span.from.as_second(), 3601);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_field() {
        let none = CostQuery::default;
        for (query, field) in [
            (CostQuery { by: Some("colour".into()), ..none() }, "by"),
            (CostQuery { tz: Some("Mars/Olympus".into()), ..none() }, "tz"),
            (CostQuery { from: Some("yesterday".into()), ..none() }, "from"),
            (CostQuery { from: Some("2026-02-30".into()), ..none() }, "from"),
            (CostQuery { from: Some("2026-11-02".into()), to: Some("2026-11-01".into()), ..none() }, "to"),
            (CostQuery { from: Some("2020-01-01".into()), by: Some("day".into()), ..none() }, "from"),
            (CostQuery { format: Some("xml".into()), ..none() }, "format"),
            (CostQuery { limit: Some("0".into()), ..none() }, "limit"),
            (CostQuery { user: Some("A B".into()), ..none() }, "user"),
        ] {
            assert_eq!(asked(&query).unwrap_err().field.as_deref(), Some(field));
        }
        let all = asked(&CostQuery { by: Some("project, user,container,flavor,day".into()), ..none() })
            .unwrap()
            .cut;
        assert!(all.project && all.user && all.container && all.flavor && all.days_of.is_some());
    }
}
