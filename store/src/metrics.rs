//! What becomes of jobs, counted where it is decided: every role that claims, ends or gives up jobs does so through the store.

use crate::{Outcome, Store};
use mothball_domain::job::{Job, JobKind};
use mothball_domain::state::JobState;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use std::sync::Arc;

/// Numbers about jobs, of this process.
#[derive(Debug)]
pub struct JobMetrics {
    submitted: IntCounterVec,
    finished: IntCounterVec,
    attempts: IntCounterVec,
    wait: HistogramVec,
}

impl JobMetrics {
    /// Registers them. Once for each registry.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let submitted = IntCounterVec::new(
            Opts::new("mothball_jobs_submitted_total", "Jobs recorded by this process."),
            &["kind"],
        )?;
        let finished = IntCounterVec::new(
            Opts::new("mothball_jobs_finished_total", "Jobs that ended, as this process wrote it down."),
            &["kind", "outcome"],
        )?;
        let attempts = IntCounterVec::new(
            Opts::new("mothball_job_attempts_total", "Attempts that ended, as this process wrote it down."),
            &["kind", "result"],
        )?;
        let wait = HistogramVec::new(
            HistogramOpts::new(
                "mothball_job_wait_seconds",
                "Time from a job's submission to its first claim.",
            )
            .buckets(prometheus::exponential_buckets(0.01, 3.0, 13)?),
            &["kind"],
        )?;
        registry.register(Box::new(submitted.clone()))?;
        registry.register(Box::new(finished.clone()))?;
        registry.register(Box::new(attempts.clone()))?;
        registry.register(Box::new(wait.clone()))?;
        // Zero from the start, so that a rate over the first one is right.
        for kind in JobKind::ALL {
            submitted.with_label_values(&[kind.as_str()]);
            for state in JobState::ALL.into_iter().filter(|s| s.is_final()) {
                finished.with_label_values(&[kind.as_str(), state.as_str()]);
            }
        }
        Ok(Self { submitted, finished, attempts, wait })
    }
}

impl Store {
    /// The same store, which counts what becomes of jobs.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<JobMetrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    pub(crate) fn count_submitted(&self, job: &Job) {
        if let Some(metrics) = &self.metrics {
            metrics.submitted.with_label_values(&[job.kind().as_str()]).inc();
        }
    }

    pub(crate) fn count_claimed(&self, job: &Job) {
        if let (Some(metrics), Some(started), 1) = (&self.metrics, job.started_at, job.fence.0) {
            let waited_s = started.duration_since(job.created_at).as_secs_f64();
            metrics.wait.with_label_values(&[job.kind().as_str()]).observe(waited_s);
        }
    }

    pub(crate) fn count_attempt(&self, job: &Job, outcome: &Outcome) {
        let result = match outcome {
            Outcome::Succeeded(_) => "succeeded",
            Outcome::Failed { failure, .. } => failure.class.as_str(),
            Outcome::Interrupted => "interrupted",
            Outcome::Cancelled => "cancelled",
        };
        if let Some(metrics) = &self.metrics {
            metrics.attempts.with_label_values(&[job.kind().as_str(), result]).inc();
        }
        self.count_finished(job);
    }

    pub(crate) fn count_finished(&self, job: &Job) {
        if let Some(metrics) = self.metrics.as_ref().filter(|_| job.state.is_final()) {
            metrics.finished.with_label_values(&[job.kind().as_str(), job.state.as_str()]).inc();
        }
    }
}
