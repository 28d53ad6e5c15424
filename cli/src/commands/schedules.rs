//! `mothball schedules`: what is done to containers by the clock.

mod ahead;
mod edit;

use super::manage::pairs;
use crate::context::{Context, ago, local};
use crate::exit::Fail;
use crate::output::{self, human};
use clap::{Args, Subcommand};
use mothball_api::v1::views::{RunContainer, Schedule, ScheduleRun};
use mothball_domain::schedule::Missed;
use mothball_domain::schedule::run::RunOutcome;

/// Most schedules that are listed.
const LIST_MAX: usize = 10_000;
/// Most runs that are listed: more are not kept.
const RUNS_MAX: usize = 200;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct SchedulesArgs {
    #[command(subcommand)]
    command: Option<SchedulesCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only those that name this container.
    #[arg(long, value_name = "C")]
    container: Option<String>,
    /// Only this maker's.
    #[arg(long)]
    user: Option<String>,
    /// Of every project (operators).
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Subcommand)]
enum SchedulesCommand {
    /// Lists schedules.
    List(ListArgs),
    /// Shows one schedule.
    Show {
        /// The schedule's id.
        id: String,
    },
    /// Makes a schedule.
    Add(edit::AddArgs),
    /// Changes a schedule; its next run moves at once.
    Edit(edit::EditArgs),
    /// Shows the next runs: of all schedules, of one, or of a pattern that is not scheduled yet.
    Next(ahead::NextArgs),
    /// Leaves the next run out.
    Skip(ahead::SkipArgs),
    /// Moves the next run, once, to a later time.
    Postpone(ahead::PostponeArgs),
    /// Switches a schedule off until it is resumed.
    Pause {
        /// The schedule's id.
        id: String,
    },
    /// Switches a schedule on again; what went by meanwhile is not missed.
    Resume {
        /// The schedule's id.
        id: String,
    },
    /// Lists the last runs of a schedule, what came of them, and their jobs.
    #[command(visible_alias = "history")]
    Runs {
        /// The schedule's id.
        id: String,
    },
    /// Removes schedules; the jobs that they started stay.
    #[command(visible_alias = "delete")]
    Remove {
        /// Ids of schedules.
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

pub(crate) async fn run(args: SchedulesArgs, cx: &Context) -> Result<(), Fail> {
    match args.command {
        None => list(args.list, cx).await,
        Some(SchedulesCommand::List(args)) => list(args, cx).await,
        Some(SchedulesCommand::Show { id }) => {
            let found: Schedule = cx.client()?.get(&["schedules", &id], &[]).await?;
            cx.show(&found, facts)
        }
        Some(SchedulesCommand::Add(args)) => edit::add(args, cx).await,
        Some(SchedulesCommand::Edit(args)) => edit::edit(args, cx).await,
        Some(SchedulesCommand::Next(args)) => ahead::next(args, cx).await,
        Some(SchedulesCommand::Skip(args)) => ahead::skip(args, cx).await,
        Some(SchedulesCommand::Postpone(args)) => ahead::postpone(args, cx).await,
        Some(SchedulesCommand::Pause { id }) => edit::enable(&id, false, cx).await,
        Some(SchedulesCommand::Resume { id }) => edit::enable(&id, true, cx).await,
        Some(SchedulesCommand::Runs { id }) => runs(&id, cx).await,
        Some(SchedulesCommand::Remove { ids }) => remove(ids, cx).await,
    }
}

async fn list(args: ListArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let mut query = Vec::new();
    query.extend(args.all.then(|| ("all", "true".to_owned())));
    query.extend(args.user.map(|user| ("user", user)));
    if let Some(container) = args.container {
        let found: mothball_api::v1::views::Container = client.get(&["containers", &container], &[]).await?;
        query.push(("container", found.id.to_string()));
    }
    let schedules: Vec<Schedule> = client.list(&["schedules"], &query, LIST_MAX).await?;
    cx.show(&schedules, |all| {
        let header = ["id", "action", "of", "cron", "zone", "next", "", "user"];
        output::table(&header, all.iter().map(row))
    })
}

fn row(s: &Schedule) -> Vec<String> {
    let (next, soon) = match s.next_at {
        Some(at) if s.skip_next => (local(at), "skipped".to_owned()),
        Some(at) => (local(at), ago(at)),
        None => ("-".to_owned(), "off".to_owned()),
    };
    vec![
        s.id.to_string(),
        s.action.to_string(),
        about(s),
        s.cron.clone(),
        s.timezone.clone(),
        next,
        soon,
        s.user.clone(),
    ]
}

/// What a schedule is about.
fn about(s: &Schedule) -> String {
    match (&s.container_name, s.container, &s.labels) {
        (Some(name), _, _) => name.clone(),
        (None, Some(id), _) => id.to_string(),
        (None, None, Some(labels)) => pairs(labels),
        (None, None, None) => "all containers".to_owned(),
    }
}

/// A schedule in full.
fn facts(s: &Schedule) -> String {
    let next = s.next_at.map(|at| {
        let skipped = if s.skip_next { ", which is skipped" } else { "" };
        format!("{} ({}){skipped}", local(at), ago(at))
    });
    output::facts(&[
        ("id", s.id.to_string()),
        ("action", s.action.to_string()),
        ("of", about(s)),
        ("cron", s.cron.clone()),
        ("time zone", s.timezone.clone()),
        ("next", next.unwrap_or_else(|| "never: it is switched off".to_owned())),
        ("postponed from", s.postponed_from.map(local).unwrap_or_default()),
        ("switched off", s.disabled_because.clone().unwrap_or_default()),
        ("missed runs", if s.missed == Missed::default() { "run once" } else { "skip" }.to_owned()),
        ("waits for", human::seconds(s.patience_seconds.into())),
        ("tag", s.tag.clone().unwrap_or_default()),
        ("flavor", s.flavor.clone().unwrap_or_default()),
        ("volumes", if s.discard_volumes { "discarded".to_owned() } else { String::new() }),
        ("last job", s.last_job.map(|job| job.to_string()).unwrap_or_default()),
        ("description", s.description.clone()),
        ("user", s.user.clone()),
        ("project", s.project.clone()),
        ("created", local(s.created_at)),
    ])
}

async fn runs(id: &str, cx: &Context) -> Result<(), Fail> {
    let runs: Vec<ScheduleRun> = cx.client()?.list(&["schedules", id, "runs"], &[], RUNS_MAX).await?;
    cx.show(&runs, |all| {
        let header = ["planned", "outcome", "container", "job", "is", "why"];
        output::table(&header, all.iter().flat_map(run_rows))
    })
}

/// A line for each container; one for a run that attended to none.
fn run_rows(run: &ScheduleRun) -> Vec<Vec<String>> {
    let missed = match run.missed {
        0 => String::new(),
        count => format!("{count} earlier missed"),
    };
    if run.containers.is_empty() {
        let why = run.reason.clone().unwrap_or(missed);
        return vec![line(run, run.outcome, "-", "-", "-", &why)];
    }
    let of = |c: &RunContainer| {
        let job = c.job.map_or_else(|| "-".to_owned(), |job| job.to_string());
        let state = c.job_state.map_or_else(|| "-".to_owned(), |state| state.to_string());
        line(run, c.outcome, &c.name, &job, &state, c.reason.as_deref().unwrap_or(&missed))
    };
    run.containers.iter().map(of).collect()
}

fn line(
    run: &ScheduleRun,
    outcome: RunOutcome,
    container: &str,
    job: &str,
    state: &str,
    why: &str,
) -> Vec<String> {
    let words = outcome.as_str().replace('_', " ");
    vec![local(run.planned_at), words, container.to_owned(), job.to_owned(), state.to_owned(), why.to_owned()]
}

async fn remove(ids: Vec<String>, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    cx.confirm(&format!("Remove {}?", ids.join(", ")))?;
    for id in &ids {
        client.delete::<serde_json::Value>(&["schedules", id], &[]).await?;
    }
    cx.show(&ids, |ids| format!("removed {}", ids.join(", ")))
}
