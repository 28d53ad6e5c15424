//! `mothball jobs`.

use super::submitted::{self, Wait};
use crate::context::{Context, ago, local};
use crate::exit::Fail;
use crate::output::{self, human};
use crate::wait;
use clap::{Args, Subcommand};
use mothball_api::v1::views::Job;
use mothball_domain::job::JobKind;
use mothball_domain::state::JobState;
use serde_json::json;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// Lists jobs.
    List(ListArgs),
    /// Shows one job with its history.
    Show { id: String },
    /// Follows a job to its end; 0 only if it succeeded.
    Watch { id: String },
    /// Stops a job; what it had begun is cleaned up.
    Cancel {
        id: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Has a failed or cancelled job tried again, from the step where it stopped.
    Retry {
        id: String,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Everybody's, not only your own (admins).
    #[arg(long)]
    all: bool,
    /// Only jobs in this state.
    #[arg(long)]
    state: Option<JobState>,
    /// Only jobs of this kind.
    #[arg(long)]
    kind: Option<JobKind>,
    /// At most so many, newest first.
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

pub(crate) async fn run(args: JobsArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    match args.command {
        None => list(args.list, cx).await,
        Some(JobsCommand::List(args)) => list(args, cx).await,
        Some(JobsCommand::Show { id }) => {
            let job: Job = client.get(&["jobs", &id], &[]).await?;
            cx.show(&job, show)
        }
        Some(JobsCommand::Watch { id }) => {
            let job: Job = client.get(&["jobs", &id], &[]).await?;
            submitted::one(cx, &client, job, Wait { wait: true }).await
        }
        Some(JobsCommand::Cancel { id, wait }) => {
            let job: Job = client.post(&["jobs", &id, "cancel"], &json!({})).await?;
            if !wait.wait {
                return cx.show(&job, submitted::line);
            }
            cancelled(&wait::for_end(&client, job).await?, cx)
        }
        Some(JobsCommand::Retry { id, wait }) => {
            let job: Job = client.post(&["jobs", &id, "retry"], &json!({})).await?;
            submitted::one(cx, &client, job, wait).await
        }
    }
}

/// A job that was to be stopped: here its being cancelled is the success.
fn cancelled(job: &Job, cx: &Context) -> Result<(), Fail> {
    cx.show(job, submitted::line)?;
    if job.state == JobState::Cancelled {
        return Ok(());
    }
    Err(Fail::failed(format!("job {} ended as {} before it could be stopped", job.id, job.state)))
}

async fn list(args: ListArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let mut query = Vec::new();
    query.extend(args.all.then(|| ("all", "true".to_owned())));
    query.extend(args.state.map(|s| ("state", s.to_string())));
    query.extend(args.kind.map(|k| ("kind", k.to_string())));
    let jobs: Vec<Job> = client.list(&["jobs"], &query, args.limit).await?;
    cx.show(&jobs, |jobs| {
        let header = ["id", "kind", "state", "container", "image", "user", "created", "took", "about"];
        output::table(&header, jobs.iter().map(row))
    })
}

fn row(job: &Job) -> Vec<String> {
    let container = job.container_name.clone().or_else(|| job.container.map(|c| c.to_string()));
    vec![
        job.id.to_string(),
        job.kind.to_string(),
        job.state.to_string(),
        container.unwrap_or_else(|| "-".to_owned()),
        job.image.clone().unwrap_or_else(|| "-".to_owned()),
        job.user.clone(),
        ago(job.created_at),
        took(job).unwrap_or_else(|| "-".to_owned()),
        about(job),
    ]
}

/// From its first claim to its end.
fn took(job: &Job) -> Option<String> {
    let (from, to) = (job.started_at?, job.finished_at?);
    Some(human::seconds(u64::try_from(to.as_second() - from.as_second()).unwrap_or(0)))
}

/// What is worth saying of a job in a list: the error, or how far it is.
fn about(job: &Job) -> String {
    match (&job.error, job.state) {
        (_, JobState::Succeeded | JobState::Cancelled) => String::new(),
        (Some(error), JobState::Failed | JobState::Retrying) => format!("{}: {}", error.class, error.message),
        _ => wait::status(job),
    }
}

fn show(job: &Job) -> String {
    let error = job.error.as_ref();
    let mut text = output::facts(&[
        ("id", job.id.to_string()),
        ("kind", job.kind.to_string()),
        ("state", job.state.to_string()),
        ("step", job.step.clone().unwrap_or_default()),
        ("progress", if job.state == JobState::Running { wait::status(job) } else { String::new() }),
        ("attempt", format!("{} of {}", job.attempt, job.max_attempts)),
        ("waits for", job.waiting_for.clone().unwrap_or_default()),
        (
            "next attempt",
            job.next_attempt_at.map(|at| format!("{} ({})", local(at), ago(at))).unwrap_or_default(),
        ),
        ("container", container(job)),
        ("image", job.image.clone().unwrap_or_default()),
        ("leaves out", job.excludes.join(", ")),
        ("digest", job.digest.clone().unwrap_or_default()),
        ("size", job.size_bytes.map(human::bytes).unwrap_or_default()),
        ("node", job.node.clone().unwrap_or_default()),
        ("project", job.project.clone()),
        ("user", job.user.clone()),
        ("created", local(job.created_at)),
        ("started", job.started_at.map(local).unwrap_or_default()),
        ("finished", job.finished_at.map(local).unwrap_or_default()),
        ("took", took(job).unwrap_or_default()),
        ("error", error.map(|e| format!("{} ({})", e.message, e.class)).unwrap_or_default()),
        ("hint", error.map(|e| e.hint.clone()).unwrap_or_default()),
    ]);
    for note in &job.notes {
        text.push_str("\nnote: ");
        text.push_str(&output::clean(note));
    }
    let rows = job.events.iter().map(|e| vec![local(e.at), e.event.clone(), e.detail.clone()]);
    text.push_str("\n\n");
    text.push_str(&output::table(&["at", "event", "detail"], rows));
    text
}

fn container(job: &Job) -> String {
    match (job.container, &job.container_name) {
        (Some(id), Some(name)) => format!("{id} ({name})"),
        (Some(id), None) => id.to_string(),
        (None, _) => String::new(),
    }
}
