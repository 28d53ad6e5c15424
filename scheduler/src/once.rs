//! Going round once: what the loops do at every tick, and what a host does that keeps its own time.

use crate::{Parts, attend, history, notify, policies, purges, retention, schedules};
use mothball_store::StoreError;
use tokio_util::sync::CancellationToken;

/// What a scheduler goes round for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Jobs that are due: published, published again, placed, rescued, given up.
    Jobs,
    /// Schedules that are due, and runs of theirs that are not over.
    Schedules,
    /// What the projects' policies say about their containers.
    Policies,
    /// Images that the projects' policies let go.
    Retention,
    /// Content that nothing names any more.
    Purges,
    /// What people and programs are to be told of.
    Notices,
    /// History that is old.
    History,
}

impl Round {
    /// All that a scheduler does.
    pub const ALL: [Self; 7] = [
        Self::Jobs,
        Self::Schedules,
        Self::Policies,
        Self::Retention,
        Self::Purges,
        Self::Notices,
        Self::History,
    ];

    /// Goes round once, until its end or `shutdown`. Any number of schedulers may do so at once; what one that is
    /// dropped half-way has left is due still.
    pub(crate) async fn go(self, parts: &Parts, shutdown: &CancellationToken) -> Result<(), StoreError> {
        match self {
            Self::Jobs => attend::round(parts, shutdown).await,
            Self::Schedules => schedules::round(parts, shutdown).await,
            Self::Policies => policies::round(parts, shutdown).await,
            Self::Retention => retention::round(parts, shutdown).await,
            Self::Purges => purges::round(parts, shutdown).await,
            Self::Notices => notify::round(parts, shutdown).await,
            Self::History => history::round(parts, shutdown).await,
        }
    }
}

/// Goes these rounds, one after the other: [`Round::ALL`] is one pass of everything that [`run`](crate::run) does for ever,
/// for a host that keeps its own time. Stops at the first error, as the store is away then.
pub async fn once(parts: &Parts, rounds: &[Round]) -> Result<(), StoreError> {
    let never = CancellationToken::new();
    for round in rounds {
        round.go(parts, &never).await?;
    }
    Ok(())
}
