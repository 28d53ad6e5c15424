//! Numbers of this scheduler for Prometheus.

use mothball_domain::schedule::run::RunOutcome;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// The scheduler's numbers.
#[derive(Debug)]
pub struct Metrics {
    /// Due jobs that were attended to, by what was done.
    pub attended: IntCounterVec,
    /// Runs of schedules that were over, by what they came to.
    pub runs: IntCounterVec,
    /// What policies did about containers.
    pub policed: IntCounterVec,
    /// Tries to tell somebody of something, by the way and how they ended.
    pub told: IntCounterVec,
    /// What policies did about images.
    pub retained: IntCounterVec,
    /// Contents whose last way from the registry was begun.
    pub purges: IntCounter,
    /// When the loop last went round, in seconds since 1970.
    pub last_tick: IntGauge,
}

impl Metrics {
    /// Registers the numbers.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let attended = IntCounterVec::new(
            Opts::new(
                "mothball_scheduler_attended_total",
                "Due jobs that were attended to, by what was done.",
            ),
            &["done"],
        )?;
        let runs = IntCounterVec::new(
            Opts::new(
                "mothball_schedule_runs_total",
                "Runs of schedules that were over, by what they came to, as this process wrote it down.",
            ),
            &["outcome"],
        )?;
        // Zero from the start, so that a rate over the first run is right.
        for outcome in RunOutcome::ALL.into_iter().filter(|outcome| *outcome != RunOutcome::Waiting) {
            runs.with_label_values(&[outcome.as_str()]);
        }
        let policed = IntCounterVec::new(
            Opts::new("mothball_policy_actions_total", "What policies did about containers."),
            &["done"],
        )?;
        for done in ["warned", "withdrawn", "parked", "refused"] {
            policed.with_label_values(&[done]);
        }
        registry.register(Box::new(policed.clone()))?;
        let told = IntCounterVec::new(
            Opts::new(
                "mothball_notifications_total",
                "Tries to tell somebody of something, by the way and how they ended.",
            ),
            &["channel", "result"],
        )?;
        for channel in ["webhook", "email"] {
            for result in ["delivered", "retrying", "failed"] {
                told.with_label_values(&[channel, result]);
            }
        }
        registry.register(Box::new(told.clone()))?;
        let retained = IntCounterVec::new(
            Opts::new("mothball_retention_actions_total", "What retention policies did about images."),
            &["done"],
        )?;
        for done in ["noticed", "withdrawn", "removed"] {
            retained.with_label_values(&[done]);
        }
        registry.register(Box::new(retained.clone()))?;
        let purges = IntCounter::new(
            "mothball_image_purges_total",
            "Jobs started that remove content from the registry for good.",
        )?;
        registry.register(Box::new(purges.clone()))?;
        let last_tick = IntGauge::new(
            "mothball_scheduler_last_tick_timestamp_seconds",
            "When the scheduler last looked for what is due.",
        )?;
        registry.register(Box::new(attended.clone()))?;
        registry.register(Box::new(runs.clone()))?;
        registry.register(Box::new(last_tick.clone()))?;
        Ok(Self { attended, runs, policed, told, retained, purges, last_tick })
    }
}
