//! History does not grow for ever: jobs that are over and audit entries are removed when they are old.

use crate::db::tx::Tx;
use crate::ops::{after, records, transact};
use crate::{Store, StoreError, keys};
use mothball_domain::id::JobId;
use mothball_domain::people::AuditEntry;
use std::time::Duration;

impl Store {
    /// Removes up to `limit` jobs that ended longer than `older_than` ago, and says how many it removed. A job that a
    /// person has retried meanwhile stays. Idempotent.
    pub async fn purge_jobs(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError> {
        let mut removed = 0;
        for id in self.db.due(keys::FINISHED, limit).await?.iter().filter_map(|m| m.parse::<JobId>().ok()) {
            let was_removed: Result<bool, StoreError> =
                transact!(self, |tx| purge_job(tx, id, older_than).await);
            if !was_removed? {
                // They come oldest first: the rest is younger.
                break;
            }
            removed += 1;
        }
        Ok(removed)
    }

    /// Removes up to `limit` audit entries older than `older_than`, and says how many. Idempotent.
    pub async fn purge_audit(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError> {
        let mut removed = 0;
        for member in self.db.due(keys::AUDIT_TIMES, limit).await? {
            let was_removed: Result<bool, StoreError> =
                transact!(self, |tx| purge_entry(tx, &member, older_than).await);
            if !was_removed? {
                break;
            }
            removed += 1;
        }
        Ok(removed)
    }
}

async fn purge_job(tx: &mut Tx<'_>, id: JobId, older_than: Duration) -> Result<bool, StoreError> {
    let Some(job) = records::job(tx, id).await? else {
        tx.remove(keys::FINISHED, id.to_string());
        return Ok(true);
    };
    let now = tx.now().await?;
    let old = job.finished_at.is_some_and(|at| after(at, older_than) < now);
    if old {
        records::remove_job(tx, &job);
    }
    Ok(old)
}

async fn purge_entry(tx: &mut Tx<'_>, member: &str, older_than: Duration) -> Result<bool, StoreError> {
    let entry: Option<AuditEntry> = tx.get(&keys::audit(member)).await?;
    let now = tx.now().await?;
    if entry.as_ref().is_some_and(|e| after(e.at, older_than) >= now) {
        return Ok(false);
    }
    if let Some(project) = entry.and_then(|e| e.project) {
        tx.remove(keys::audit_of_project(&project), member);
    }
    tx.remove(keys::AUDIT, member);
    tx.remove(keys::AUDIT_TIMES, member);
    tx.delete(&keys::audit(member));
    Ok(true)
}
