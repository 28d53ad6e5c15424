//! The audit trail: who did what, when.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::transact;
use crate::{Page, Store, StoreError, keys};
use mothball_domain::name::{ProjectName, UserName};
use mothball_domain::people::AuditEntry;
use uuid::Uuid;

/// Which entries a list shows: newest first.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Only of this project.
    pub project: Option<ProjectName>,
    /// After this one, from the last page's `next`.
    pub cursor: Option<String>,
    /// How many at most.
    pub limit: usize,
}

impl Store {
    /// Writes an entry with the store's time. `id` is a fresh UUIDv7; the same id again changes nothing.
    pub async fn audit(
        &self,
        id: Uuid,
        user: &UserName,
        project: Option<&ProjectName>,
        action: &str,
        subject: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        transact!(self, |tx| async {
            let key = keys::audit(&id.to_string());
            if tx.get::<AuditEntry>(&key).await?.is_some() {
                return Ok(());
            }
            let entry = AuditEntry {
                at: tx.now().await?,
                user: user.clone(),
                project: project.cloned(),
                action: action.to_owned(),
                subject: subject.to_owned(),
                detail: detail.to_owned(),
            };
            tx.put(&key, &entry)?;
            tx.add(keys::AUDIT, id.to_string(), 0);
            tx.add(keys::AUDIT_TIMES, id.to_string(), entry.at.as_millisecond());
            if let Some(project) = project {
                tx.add(keys::audit_of_project(project), id.to_string(), 0);
            }
            Ok::<(), StoreError>(())
        }
        .await)
    }

    /// A page of the trail.
    pub async fn audit_trail(&self, query: &AuditQuery) -> Result<Page<AuditEntry>, StoreError> {
        let index = query.project.as_ref().map_or_else(|| keys::AUDIT.to_owned(), keys::audit_of_project);
        let cursor = query.cursor.as_deref();
        let (members, next) = self.leaf(&index, cursor, Order::Descending, query.limit).await?;
        let entry_keys: Vec<String> = members.iter().map(|m| keys::audit(m)).collect();
        Ok(Page { items: Tx::new(&self.db).get_many(&entry_keys).await?, next })
    }
}
