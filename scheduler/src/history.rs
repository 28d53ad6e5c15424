//! History does not grow for ever.

use crate::Parts;
use mothball_store::StoreError;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often old history is looked for.
const EVERY: Duration = Duration::from_mins(10);
/// Records removed in one go.
const BATCH: usize = 500;

pub(crate) async fn run(parts: &Parts, shutdown: &CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = purge(parts, shutdown).await {
            tracing::warn!(error = %error, "old history could not be removed; trying again later");
        }
    }
}

async fn purge(parts: &Parts, shutdown: &CancellationToken) -> Result<(), StoreError> {
    let settings = &parts.settings;
    while !shutdown.is_cancelled() {
        let jobs = parts.store.purge_jobs(settings.keep_jobs_for, BATCH).await?;
        let entries = parts.store.purge_audit(settings.keep_audit_for, BATCH).await?;
        if jobs + entries > 0 {
            tracing::info!(jobs, audit_entries = entries, "removed old history");
        }
        if jobs < BATCH && entries < BATCH {
            return Ok(());
        }
    }
    Ok(())
}
