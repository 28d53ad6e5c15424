//! What a command does with a job that it started: print it, or wait for its end.

use crate::client::Client;
use crate::context::Context;
use crate::exit::Fail;
use crate::output::{self, human, say};
use crate::wait;
use mothball_api::v1::views::Job;
use mothball_domain::job::{JobKind, Then};
use mothball_domain::state::JobState;

/// Whether a command waits for the job that it starts.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Wait {
    /// Waits for the job's end; 0 only if it succeeded.
    #[arg(short, long)]
    pub(crate) wait: bool,
}

/// Prints a job that was started, or waits for it.
pub(crate) async fn one(cx: &Context, client: &Client, job: Job, wait: Wait) -> Result<(), Fail> {
    if !wait.wait {
        return cx.show(&job, line);
    }
    if !cx.is_json() {
        say(line(&job));
    }
    let ended = wait::for_end(client, job).await?;
    if cx.is_json() {
        output::json(&ended)?;
    }
    let job = wait::outcome(ended)?;
    if !cx.is_json() {
        say(done(&job));
    }
    Ok(())
}

/// The same for jobs of several targets; a target that was refused is said at the end, and fails the command.
pub(crate) async fn many(
    cx: &Context,
    client: &Client,
    started: Vec<Result<Job, Fail>>,
    wait: Wait,
) -> Result<(), Fail> {
    if started.len() == 1 {
        let mut started = started;
        return match started.remove(0) {
            Ok(job) => one(cx, client, job, wait).await,
            Err(e) => Err(e),
        };
    }
    let mut jobs = Vec::new();
    let mut refused: Option<Fail> = None;
    for result in started {
        match result {
            Ok(job) if wait.wait => {
                if !cx.is_json() {
                    say(line(&job));
                }
                let ended = wait::for_end(client, job).await?;
                jobs.push(ended.clone());
                match wait::outcome(ended) {
                    Ok(job) if !cx.is_json() => say(done(&job)),
                    Ok(_) => {}
                    Err(e) => refused = Some(keep_first(refused, e)),
                }
            }
            Ok(job) => {
                if !cx.is_json() {
                    say(line(&job));
                }
                jobs.push(job);
            }
            Err(e) => refused = Some(keep_first(refused, e)),
        }
    }
    if cx.is_json() {
        output::json(&jobs)?;
    }
    refused.map_or(Ok(()), Err)
}

/// All but the first failure are said at once, so that none is silent.
fn keep_first(first: Option<Fail>, next: Fail) -> Fail {
    match first {
        None => next,
        Some(first) => {
            output::tell(next.to_string());
            first
        }
    }
}

/// A job in one line.
pub(crate) fn line(job: &Job) -> String {
    let what = job.container_name.clone().or_else(|| job.container.map(|c| c.to_string()));
    let mut words = vec![format!("job {}", job.id), job.kind.to_string()];
    words.extend(what);
    if job.kind != JobKind::Launch {
        words.extend(job.image.clone());
    }
    words.push(wait::status(job));
    words.join("  ")
}

/// What a job that succeeded did, in a sentence.
fn done(job: &Job) -> String {
    let container =
        job.container_name.clone().or_else(|| job.container.map(|c| c.to_string())).unwrap_or_default();
    let image = job.image.clone().unwrap_or_default();
    let mut lines = Vec::new();
    match (job.kind, job.state) {
        (_, JobState::Queued | JobState::Running | JobState::Retrying) => lines.push(line(job)),
        (JobKind::Snapshot, _) => {
            let size = job.size_bytes.map(|s| format!(", {}", human::bytes(s))).unwrap_or_default();
            lines.push(format!("saved {container} as {image}{size}"));
            lines.extend(job.digest.as_ref().map(|digest| format!("proven in the registry: {digest}")));
            match job.then {
                Some(Then::Delete) => lines.push(format!("deleted {container}")),
                Some(Then::Park) => {
                    lines.push(format!("parked {container}: `mothball wake {container}` brings it back"));
                }
                _ => {}
            }
        }
        (JobKind::Delete, _) => lines.push(format!("deleted {container}")),
        (JobKind::Launch, _) => lines.push(format!("{container} is ready")),
        (JobKind::DeleteImage, _) => lines.push(format!("deleted image {image}")),
        (JobKind::RestoreImage, _) => lines.push(format!("the registry's tag follows image {image}")),
        (JobKind::PurgeImage, _) => lines.push(format!("removed from the registry what image {image} was")),
        (JobKind::Start, _) => lines.push(format!("{container} runs")),
        (JobKind::Stop, _) => lines.push(format!("stopped {container}")),
    }
    lines.extend(job.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}
