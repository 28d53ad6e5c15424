//! Making and changing schedules.

use super::facts;
use crate::commands::launch::labels;
use crate::context::Context;
use crate::exit::Fail;
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use mothball_api::v1::views::{ContainerRef, Schedule, SchedulePatch, ScheduleRequest};
use mothball_domain::schedule::{Missed, ScheduleAction};
use std::time::Duration;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    Save,
    Park,
    Wake,
    Delete,
}

impl From<Action> for ScheduleAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Save => Self::Save,
            Action::Park => Self::Park,
            Action::Wake => Self::Wake,
            Action::Delete => Self::Delete,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MissedRuns {
    /// The last of them is done once.
    #[value(alias = "run_once")]
    RunOnce,
    /// None of them is done.
    Skip,
}

impl From<MissedRuns> for Missed {
    fn from(missed: MissedRuns) -> Self {
        match missed {
            MissedRuns::RunOnce => Self::RunOnce,
            MissedRuns::Skip => Self::Skip,
        }
    }
}

#[derive(Debug, Args)]
#[group(id = "chosen", required = true, multiple = false, args = ["container", "label", "all_containers"])]
pub(crate) struct AddArgs {
    /// The container's number or name.
    #[arg(long, value_name = "C")]
    container: Option<String>,
    /// Instead: containers with this label when it fires; with all of them where several are given.
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Instead: all containers of the project that you may change.
    #[arg(long)]
    all_containers: bool,
    /// What is done.
    #[arg(long, value_enum)]
    action: Action,
    /// When: minute, hour, day of month, month, day of week, as in "0 20 * * 1-5".
    #[arg(long)]
    cron: String,
    /// The IANA time zone that the pattern is read in; your own unless named.
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    #[command(flatten)]
    more: MoreArgs,
    /// Makes it switched off.
    #[arg(long)]
    paused: bool,
}

/// What may be left out, and may be changed.
#[derive(Debug, Args)]
struct MoreArgs {
    /// What becomes of runs that were missed while no scheduler ran.
    #[arg(long, value_enum)]
    missed: Option<MissedRuns>,
    /// How long a run waits for jobs in its way: "10m"; an hour unless given.
    #[arg(long, value_name = "TIME")]
    patience: Option<humantime::Duration>,
    /// save, park of one container: the image's tag, overwritten each time; one of the planned time unless given.
    #[arg(long)]
    tag: Option<String>,
    /// wake: another size than the container had.
    #[arg(long)]
    flavor: Option<String>,
    /// park: lets data in anonymous volumes go with the container.
    #[arg(long)]
    discard_volumes: bool,
    /// Free text.
    #[arg(long)]
    description: Option<String>,
}

pub(crate) async fn add(args: AddArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let own = || TimeZone::system().iana_name().unwrap_or("UTC").to_owned();
    let request = ScheduleRequest {
        container: args.container.map(ContainerRef::Name),
        labels: if args.label.is_empty() { None } else { Some(labels(&args.label)?) },
        all_containers: args.all_containers,
        action: args.action.into(),
        cron: args.cron,
        timezone: args.tz.unwrap_or_else(own),
        enabled: !args.paused,
        missed: args.more.missed.map(Into::into).unwrap_or_default(),
        patience_seconds: args.more.patience.map(seconds).transpose()?,
        tag: args.more.tag,
        flavor: args.more.flavor,
        discard_volumes: args.more.discard_volumes,
        description: args.more.description.unwrap_or_default(),
        project: None,
    };
    let schedule: Schedule = client.post(&["schedules"], &request).await?;
    cx.show(&schedule, facts)
}

fn seconds(length: humantime::Duration) -> Result<u32, Fail> {
    u32::try_from(Duration::from(length).as_secs()).map_err(|_| Fail::usage("--patience is too long"))
}

#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// The schedule's id.
    id: String,
    /// Another container, by number or name.
    #[arg(long, value_name = "C", conflicts_with_all = ["label", "all_containers"])]
    container: Option<String>,
    /// Instead: containers with this label; with all of them where several are given.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "all_containers")]
    label: Vec<String>,
    /// Instead: all containers of the project that its maker may change.
    #[arg(long)]
    all_containers: bool,
    /// What is done.
    #[arg(long, value_enum)]
    action: Option<Action>,
    /// When.
    #[arg(long)]
    cron: Option<String>,
    /// The IANA time zone.
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    #[command(flatten)]
    more: MoreArgs,
}

pub(crate) async fn edit(args: EditArgs, cx: &Context) -> Result<(), Fail> {
    // Empty text takes it away.
    let or_none = |text: Option<String>| text.map(|text| Some(text).filter(|text| !text.is_empty()));
    let patch = SchedulePatch {
        container: args.container.map(ContainerRef::Name),
        labels: if args.label.is_empty() { None } else { Some(labels(&args.label)?) },
        all_containers: args.all_containers.then_some(true),
        action: args.action.map(Into::into),
        cron: args.cron,
        timezone: args.tz,
        missed: args.more.missed.map(Into::into),
        patience_seconds: args.more.patience.map(seconds).transpose()?,
        tag: or_none(args.more.tag),
        flavor: or_none(args.more.flavor),
        discard_volumes: args.more.discard_volumes.then_some(true),
        description: args.more.description,
        ..SchedulePatch::default()
    };
    let schedule: Schedule = cx.client()?.patch(&["schedules", &args.id], &patch).await?;
    cx.show(&schedule, facts)
}

pub(crate) async fn enable(id: &str, enabled: bool, cx: &Context) -> Result<(), Fail> {
    let patch = SchedulePatch { enabled: Some(enabled), ..SchedulePatch::default() };
    let schedule: Schedule = cx.client()?.patch(&["schedules", id], &patch).await?;
    cx.show(&schedule, facts)
}
