//! History does not grow for ever.

use crate::Parts;
use crate::once::Round;
use crate::rounds::Rounds;
use mothball_store::StoreError;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often old history is looked for.
const EVERY: Duration = Duration::from_mins(10);
/// Records removed in one go.
const BATCH: usize = 500;

pub(crate) async fn run(parts: &Parts, shutdown: &CancellationToken) {
    let mut rounds = Rounds::every(EVERY, "old history", shutdown);
    while rounds.next().await {
        let done = Round::History.go(parts, shutdown).await;
        rounds.ended(done).await;
    }
}

pub(crate) async fn round(parts: &Parts, shutdown: &CancellationToken) -> Result<(), StoreError> {
    let (store, settings) = (&parts.store, &parts.settings);
    let brought = store.begin_ledger().await?;
    if brought > 0 {
        tracing::info!(containers = brought, "brought containers of before there was a ledger into it");
    }
    while !shutdown.is_cancelled() {
        let jobs = store.purge_jobs(settings.keep_jobs_for, BATCH).await?;
        let entries = store.purge_audit(settings.keep_audit_for, BATCH).await?;
        // As long as a job may name it.
        let containers = store.purge_containers(settings.keep_jobs_for, BATCH).await?;
        let sheets = store.purge_ledger(settings.keep_ledger_for, BATCH).await?;
        let deliveries = store.purge_deliveries(settings.notify.keep_for, BATCH).await?;
        let removed = [jobs, entries, containers, sheets, deliveries];
        if removed.iter().sum::<usize>() > 0 {
            tracing::info!(
                jobs,
                audit_entries = entries,
                containers,
                sheets,
                deliveries,
                "removed old history"
            );
        }
        if removed.into_iter().all(|removed| removed < BATCH) {
            return Ok(());
        }
    }
    Ok(())
}
