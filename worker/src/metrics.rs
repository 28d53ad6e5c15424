//! Numbers of this worker for Prometheus. The help text of each is its doc line.

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, Registry};

/// The worker's numbers.
#[derive(Debug)]
pub struct Metrics {
    /// Time that a step of a job took.
    pub step_seconds: HistogramVec,
    /// Time that a container was frozen for a save.
    pub pause_seconds: Histogram,
    /// Bytes read from writable layers.
    pub bytes_read: IntCounter,
    /// Bytes sent to the registry.
    pub bytes_uploaded: IntCounter,
    /// Bytes that the registry had already.
    pub bytes_reused: IntCounter,
}

impl Metrics {
    /// Registers the numbers.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let step_seconds = HistogramVec::new(
            HistogramOpts::new("mothball_job_duration_seconds", "Time that a step of a job took.")
                .buckets(prometheus::exponential_buckets(0.05, 2.5, 14)?),
            &["kind", "step"],
        )?;
        let pause_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "mothball_container_pause_seconds",
                "Time that a container was frozen for a save.",
            )
            .buckets(prometheus::exponential_buckets(0.01, 2.5, 14)?),
        )?;
        let counter = |name: &str, help: &str| IntCounter::new(name, help);
        let bytes_read = counter("mothball_snapshot_bytes_read_total", "Bytes read from writable layers.")?;
        let bytes_uploaded =
            counter("mothball_snapshot_bytes_uploaded_total", "Bytes sent to the registry.")?;
        let bytes_reused =
            counter("mothball_snapshot_bytes_reused_total", "Bytes that the registry had already.")?;
        registry.register(Box::new(step_seconds.clone()))?;
        registry.register(Box::new(pause_seconds.clone()))?;
        for counter in [&bytes_read, &bytes_uploaded, &bytes_reused] {
            registry.register(Box::new(counter.clone()))?;
        }
        Ok(Self { step_seconds, pause_seconds, bytes_read, bytes_uploaded, bytes_reused })
    }
}
