//! Waiting for a job, and saying how far it is. The job does not depend on anybody waiting for it.

use crate::client::{Client, Events};
use crate::exit::{Code, Fail};
use crate::output::{human, tell};
use indicatif::{ProgressBar, ProgressStyle};
use mothball_api::v1::views::Job;
use mothball_domain::state::JobState;
use std::io::IsTerminal;
use std::time::Duration;
use tokio::time::Instant;

/// How often the job is asked for where the server's events cannot be had.
const POLL: Duration = Duration::from_secs(1);
/// How long a server that is away is waited for: it may be starting again.
const AWAY_MAX: Duration = Duration::from_mins(5);
/// How often progress is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Waits until a job has ended, and says on standard error how it goes.
pub(crate) async fn for_end(client: &Client, job: Job) -> Result<Job, Fail> {
    let id = job.id;
    let mut reporter = Reporter::new(&job);
    let followed = tokio::select! {
        followed = follow(client, job, &mut reporter) => followed,
        _ = tokio::signal::ctrl_c() => {
            Err(Fail::failed("stopped waiting").hint(format!("the job goes on: `mothball jobs watch {id}`")))
        }
    };
    reporter.finish();
    followed
}

/// The job if it succeeded; else why not, for people.
pub(crate) fn outcome(job: Job) -> Result<Job, Fail> {
    match job.state {
        JobState::Failed => Err(failure(&job)),
        JobState::Cancelled => Err(Fail::failed(format!("job {} ({}) was cancelled", job.id, job.kind))),
        _ => Ok(job),
    }
}

fn failure(job: &Job) -> Fail {
    let (message, hint) = match &job.error {
        Some(error) => (format!("{} ({})", error.message, error.class), error.hint.clone()),
        None => ("no reason was recorded".to_owned(), String::new()),
    };
    Fail::failed(format!("job {} ({}) failed: {message}", job.id, job.kind)).hint(hint)
}

async fn follow(client: &Client, job: Job, reporter: &mut Reporter) -> Result<Job, Fail> {
    let id = job.id.to_string();
    let mut last = job;
    let mut heard = Instant::now();
    loop {
        if last.state.is_final() {
            return Ok(last);
        }
        // Events where they can be had; the question below where not, and for what happened between two streams.
        if let Ok(events) = client.events(&["jobs", &id, "events"]).await
            && let Some(job) = listen(events, reporter).await
        {
            (last, heard) = (job, Instant::now());
            continue;
        }
        tokio::time::sleep(POLL).await;
        match client.get::<Job>(&["jobs", &id], &[]).await {
            Ok(job) => {
                reporter.report(&job);
                (last, heard) = (job, Instant::now());
            }
            Err(e) if e.code == Code::Unreachable && heard.elapsed() < AWAY_MAX => reporter.away(&e.message),
            Err(e) => return Err(e.hint(format!("the job goes on: `mothball jobs watch {id}`"))),
        }
    }
}

/// Reads events until the job has ended or the stream has; what was last heard.
async fn listen(mut events: Events, reporter: &mut Reporter) -> Option<Job> {
    let mut last = None;
    while let Ok(Some(event)) = events.next().await {
        let Ok(job) = serde_json::from_str::<Job>(&event.data) else { continue };
        reporter.report(&job);
        let ended = job.state.is_final();
        last = Some(job);
        if ended {
            break;
        }
    }
    last
}

/// Says how a job goes: with a bar on a terminal, else in lines.
struct Reporter {
    bar: Option<ProgressBar>,
    /// Events that were said already.
    said: usize,
    /// The line that stood there last.
    line: String,
    written: Option<Instant>,
    away: bool,
}

impl Reporter {
    fn new(job: &Job) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let mut reporter = Self { bar, said: 0, line: String::new(), written: None, away: false };
        reporter.report(job);
        reporter
    }

    fn report(&mut self, job: &Job) {
        self.away = false;
        match &self.bar {
            Some(bar) => paint(bar, job),
            None => self.write(job),
        }
    }

    fn write(&mut self, job: &Job) {
        for event in job.events.iter().skip(self.said) {
            let detail = if event.detail.is_empty() { String::new() } else { format!(": {}", event.detail) };
            tell(format!("{}  {}{detail}", crate::context::local(event.at), event.event));
        }
        self.said = self.said.max(job.events.len());
        let line = status(job);
        let soon = self.written.is_some_and(|at| at.elapsed() < LINE_EVERY);
        let moves = job.progress.bytes_total > 0 || job.waiting_for.is_some();
        if !job.state.is_final() && moves && !soon && line != self.line {
            tell(format!("  {line}"));
            self.line = line;
            self.written = Some(Instant::now());
        }
    }

    /// Says once that the server is away.
    fn away(&mut self, why: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("waiting for the server: {why}"));
        } else if !self.away {
            tell(format!("waiting for the server: {why}"));
        }
        self.away = true;
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn paint(bar: &ProgressBar, job: &Job) {
    let template = if job.progress.bytes_total > 0 {
        "{spinner} {prefix} [{bar:30}] {msg}"
    } else {
        "{spinner} {prefix} {msg}"
    };
    // The words first: each of these may be drawn with what was there before.
    bar.set_prefix(job.kind.to_string());
    bar.set_message(status(job));
    bar.set_length(job.progress.bytes_total);
    bar.set_position(job.progress.bytes_done);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}

/// Where a job stands, in one line: step, bytes, rate, time left, attempt.
pub(crate) fn status(job: &Job) -> String {
    let mut words =
        vec![job.step.clone().filter(|_| !job.state.is_final()).unwrap_or_else(|| job.state.to_string())];
    let progress = &job.progress;
    if job.state == JobState::Running && progress.bytes_total > 0 {
        words.push(format!(
            "{} of {}",
            human::bytes(progress.bytes_done),
            human::bytes(progress.bytes_total)
        ));
        if progress.bytes_per_second > 0 {
            words.push(format!("{}/s", human::bytes(progress.bytes_per_second)));
        }
        words.extend(progress.eta_seconds.map(|eta| format!("{} left", human::seconds(eta))));
    }
    match job.state {
        JobState::Queued | JobState::Retrying => {
            words.insert(0, job.state.to_string());
            words.extend(job.waiting_for.as_ref().map(|what| format!("waiting for {what}")));
            words.extend(job.next_attempt_at.map(|at| format!("next attempt {}", crate::context::ago(at))));
        }
        _ => {}
    }
    words.dedup();
    if job.attempt > 1 && !job.state.is_final() {
        words.push(format!("attempt {} of {}", job.attempt, job.max_attempts));
    }
    words.join("  ")
}
