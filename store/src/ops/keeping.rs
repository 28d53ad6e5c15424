//! Keeping a container from being parked: by its link, or by who owns it.

use crate::db::tx::Tx;
use crate::{Store, StoreError, keys};
use mothball_domain::container::Container;
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::notice::KeepToken;
use mothball_domain::policy::{ParkPolicy, Warning};
use rand::RngExt;
use std::time::Duration;

/// How long a link works after the time it names: a park that waits its turn can still be stopped by it.
const LINK_SPARE: Duration = Duration::from_hours(24);

impl Store {
    /// The container that a link keeps. None when the link is old or was never given out.
    pub async fn kept_by(&self, token: &KeepToken) -> Result<Option<Container>, StoreError> {
        let mut tx = Tx::new(&self.db);
        match tx.get::<ContainerId>(&keys::keep(token)).await? {
            Some(id) => tx.get(&keys::container(id)).await,
            None => Ok(None),
        }
    }

    /// The unfinished job by which a policy parks the container, if one does.
    pub async fn policy_park_of(&self, container: ContainerId) -> Result<Option<JobId>, StoreError> {
        let mut tx = Tx::new(&self.db);
        let warning: Option<Warning> = tx.get(&keys::warning(container)).await?;
        let found: Option<Container> = tx.get(&keys::container(container)).await?;
        let tried = warning.and_then(|warning| warning.tried);
        Ok(tried.filter(|job| found.is_some_and(|c| c.job == Some(*job))))
    }
}

/// Makes a link that keeps a container until its grace is over, and a while longer.
pub(crate) fn offer(
    tx: &mut Tx<'_>,
    container: ContainerId,
    policy: &ParkPolicy,
) -> Result<KeepToken, StoreError> {
    let token = KeepToken::of(rand::rng().random());
    let lives = policy.grace().saturating_add(LINK_SPARE);
    tx.put_for(&keys::keep(&token), &container, Some(lives))?;
    Ok(token)
}
