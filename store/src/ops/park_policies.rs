//! What projects let Mothball do by itself: one policy about parking for each project that has one.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::transact;
use crate::{Store, StoreError, keys};
use mothball_domain::name::ProjectName;
use mothball_domain::policy::ParkPolicy;

/// Most projects of one platform that have a policy.
const PROJECTS_MAX: usize = 100_000;

impl Store {
    /// A project's policy; the one that does nothing where none was set.
    pub async fn park_policy(&self, project: &ProjectName) -> Result<ParkPolicy, StoreError> {
        Ok(Tx::new(&self.db).get(&keys::park_policy(project)).await?.unwrap_or_default())
    }

    /// Sets a project's policy. Atomic, idempotent.
    pub async fn set_park_policy(
        &self,
        project: &ProjectName,
        policy: &ParkPolicy,
    ) -> Result<(), StoreError> {
        transact!(self, |tx| set(tx, project, policy))
    }

    /// Forgets that a project had a policy, if that does nothing now: the caller has withdrawn its warnings. Atomic,
    /// idempotent.
    pub async fn end_park_policy(&self, project: &ProjectName) -> Result<(), StoreError> {
        transact!(self, |tx| end(tx, project).await)
    }

    /// Projects that have a policy, or had one of which warnings may stand, by name.
    pub async fn projects_with_park_policy(&self) -> Result<Vec<ProjectName>, StoreError> {
        let members = self.db.scan(keys::PARK_POLICIES, None, Order::Ascending, PROJECTS_MAX).await?;
        Ok(members.into_iter().filter_map(|member| ProjectName::new(member).ok()).collect())
    }
}

fn set(tx: &mut Tx<'_>, project: &ProjectName, policy: &ParkPolicy) -> Result<(), StoreError> {
    tx.put(&keys::park_policy(project), policy)?;
    tx.add(keys::PARK_POLICIES, project.as_str(), 0);
    Ok(())
}

async fn end(tx: &mut Tx<'_>, project: &ProjectName) -> Result<(), StoreError> {
    let policy: ParkPolicy = tx.get(&keys::park_policy(project)).await?.unwrap_or_default();
    if policy == ParkPolicy::default() {
        tx.delete(&keys::park_policy(project));
        tx.remove(keys::PARK_POLICIES, project.as_str());
    }
    Ok(())
}
