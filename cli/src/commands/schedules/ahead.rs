//! What comes: the next runs, and leaving one out or moving it.

use super::facts;
use crate::commands::manage::until;
use crate::context::{Context, ago, local, now};
use crate::exit::Fail;
use crate::output;
use clap::Args;
use jiff::tz::TimeZone;
use mothball_api::v1::views::{PostponeRequest, Schedule, SchedulePreview, SkipRequest, UpcomingRun};
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct NextArgs {
    /// The schedule's id; all schedules of the project unless named.
    #[arg(conflicts_with = "cron")]
    id: Option<String>,
    /// A pattern that need not be scheduled.
    #[arg(long, requires = "tz")]
    cron: Option<String>,
    /// The IANA time zone of the pattern.
    #[arg(long, value_name = "ZONE", requires = "cron")]
    tz: Option<String>,
    /// How many runs.
    #[arg(short = 'n', long, default_value_t = 10)]
    count: u32,
}

pub(crate) async fn next(args: NextArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let count = ("count", args.count.to_string());
    if let (Some(cron), Some(timezone)) = (args.cron, args.tz) {
        let query = [("cron", cron), ("timezone", timezone), count];
        let preview: SchedulePreview = client.get(&["schedules", "preview"], &query).await?;
        return cx.show(&preview, |p| {
            let row = |(at, there): (&jiff::Timestamp, &String)| vec![there.clone(), local(*at), ago(*at)];
            output::table(&[&p.timezone, "here", ""], p.next.iter().zip(&p.local).map(row))
        });
    }
    let mut path = vec!["schedules"];
    path.extend(args.id.as_deref());
    path.push("next");
    let list: mothball_api::v1::views::List<UpcomingRun> = client.get(&path, &[count]).await?;
    cx.show(&list.items, |all| {
        let row = |r: &UpcomingRun| {
            vec![
                r.local.clone(),
                local(r.at),
                ago(r.at),
                r.action.to_string(),
                r.about.clone(),
                r.schedule.to_string(),
            ]
        };
        output::table(&["there", "here", "", "action", "of", "schedule"], all.iter().map(row))
    })
}

#[derive(Debug, Args)]
pub(crate) struct SkipArgs {
    /// The schedule's id.
    id: String,
    /// Does not leave it out after all.
    #[arg(long)]
    undo: bool,
}

pub(crate) async fn skip(args: SkipArgs, cx: &Context) -> Result<(), Fail> {
    let request = SkipRequest { skip: !args.undo };
    let schedule: Schedule = cx.client()?.post(&["schedules", &args.id, "skip"], &request).await?;
    cx.show(&schedule, |s| {
        let at = s.next_at.map(local).unwrap_or_default();
        if s.skip_next {
            format!("the run of {at} is left out")
        } else {
            format!("the run of {at} takes place")
        }
    })
}

#[derive(Debug, Args)]
pub(crate) struct PostponeArgs {
    /// The schedule's id.
    id: String,
    /// To when: "2026-09-01 18:00", a time with zone as in RFC 3339; or "off".
    #[arg(long, value_name = "TIME", required_unless_present = "by", conflicts_with = "by")]
    until: Option<String>,
    /// By how much: "30m", "2h".
    #[arg(long, value_name = "TIME")]
    by: Option<humantime::Duration>,
}

pub(crate) async fn postpone(args: PostponeArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let until = match (&args.until, args.by) {
        (Some(text), _) => until(text, now(), &TimeZone::system())?,
        (None, by) => {
            let found: Schedule = client.get(&["schedules", &args.id], &[]).await?;
            let by = by.map(Duration::from).unwrap_or_default();
            let next_at = found
                .next_at
                .ok_or_else(|| Fail::failed("the schedule is switched off: it has no next run"))?;
            Some(next_at.checked_add(by).map_err(|_| Fail::usage("--by is too long"))?)
        }
    };
    let path = ["schedules", &args.id, "postpone"];
    let schedule: Schedule = client.post(&path, &PostponeRequest { until }).await?;
    cx.show(&schedule, facts)
}
