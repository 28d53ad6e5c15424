//! What projects let Mothball do by itself: their containers are looked at in turn, warned of, and parked. The store
//! decides in one step with what it writes, so any number of schedulers may go round.

use crate::Parts;
use crate::attend::attend;
use crate::once::Round;
use crate::rounds::Rounds;
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::name::ProjectName;
use mothball_domain::policy::ParkPolicy;
use mothball_store::{Policed, Policing, StoreError};
use rust_decimal::Decimal;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Containers read in one step.
const BATCH: usize = 200;

pub(crate) async fn run(parts: &Parts, shutdown: &CancellationToken) {
    let mut rounds = Rounds::every(parts.settings.policy_tick, "what policies say", shutdown);
    while rounds.next().await {
        let done = Round::Policies.go(parts, shutdown).await;
        rounds.ended(done).await;
    }
}

pub(crate) async fn round(parts: &Parts, shutdown: &CancellationToken) -> Result<(), StoreError> {
    for project in parts.store.projects_with_park_policy().await? {
        if shutdown.is_cancelled() {
            return Ok(());
        }
        match of_project(parts, &project, shutdown).await {
            // One project whose records cannot be read must not stop the others.
            Err(StoreError::Corrupt(what)) => {
                tracing::error!(project = %project, error = what, "a project's policy cannot be applied");
            }
            done => done?,
        }
    }
    Ok(())
}

async fn of_project(
    parts: &Parts,
    project: &ProjectName,
    shutdown: &CancellationToken,
) -> Result<(), StoreError> {
    let store = &parts.store;
    let policy = store.park_policy(project).await?;
    let mut spent = Decimal::ZERO;
    if policy.budget_per_month.is_some() {
        let this_month = store.spent_this_month(project).await?;
        spent = this_month.amount;
        if let Some(mark) = store.tell_budget(project, this_month).await? {
            tracing::info!(project = %project, mark, "a project reached a mark of its budget");
        }
    }
    let policing = Policing {
        spent,
        seen_within: parts.settings.seen_within,
        max_attempts: parts.settings.max_attempts,
        alive_within: parts.settings.alive_within,
    };
    let (mut after, mut all_seen) = (None, true);
    loop {
        let (concerned, next) = store.concerned(project, &policy, &policing, after, BATCH).await?;
        for container in concerned {
            if shutdown.is_cancelled() {
                return Ok(());
            }
            all_seen &= police(parts, container, &policing).await?;
        }
        match next {
            Some(last) => after = Some(last),
            None => break,
        }
    }
    if policy == ParkPolicy::default() && all_seen {
        // Its warnings are withdrawn: there is nothing to look at any more.
        store.end_park_policy(project).await?;
    }
    Ok(())
}

/// Does what the policy says of one container. False when that could not be told now.
async fn police(parts: &Parts, id: ContainerId, policing: &Policing) -> Result<bool, StoreError> {
    let policed = match parts.store.police(id, JobId(Uuid::now_v7()), policing).await {
        // One container that changes all the time, or cannot be read, must not stop the others.
        Err(error @ (StoreError::Contended(_) | StoreError::Corrupt(_))) => {
            tracing::warn!(container.id = %id, error = %error, "a container's policy could not be applied");
            return Ok(false);
        }
        other => other?,
    };
    let done = match &policed {
        Policed::Nothing => return Ok(true),
        Policed::Warned(warning, _) => {
            tracing::info!(container.id = %id, reason = %warning.reason, park_at = %warning.park_at, "warned of a park");
            "warned"
        }
        Policed::Withdrawn(_) => {
            tracing::info!(container.id = %id, "a warning was withdrawn");
            "withdrawn"
        }
        Policed::Parking(warning, job) => {
            tracing::info!(container.id = %id, job.id = %job.id, reason = %warning.reason, "parked by policy");
            "parked"
        }
        Policed::NotNow(warning, _, why) => {
            tracing::warn!(container.id = %id, reason = %warning.reason, why, "a park by policy was refused");
            "refused"
        }
    };
    parts.metrics.policed.with_label_values(&[done]).inc();
    note(parts, id, &policed).await;
    if let Policed::Parking(_, job) = policed {
        // It is due anyway: this is only haste.
        attend(parts, job.id).await?;
    }
    Ok(true)
}

/// Writes what was done into the audit trail, in the name of the container's owner, whose it is.
async fn note(parts: &Parts, id: ContainerId, policed: &Policed) {
    let (user, project, action, detail) = match policed {
        Policed::Nothing => return,
        Policed::Warned(warning, c) => {
            let detail = if warning.protected {
                format!("{}; it is protected, and stays", warning.reason)
            } else {
                format!("{}; it is parked at {}", warning.reason, warning.park_at)
            };
            (&c.user, &c.project, "policy.warn", detail)
        }
        Policed::Withdrawn(c) => (&c.user, &c.project, "policy.withdraw", String::new()),
        Policed::Parking(warning, job) => {
            (&job.user, &job.project, "policy.park", format!("{}; job {}", warning.reason, job.id))
        }
        Policed::NotNow(warning, c, why) => {
            (&c.user, &c.project, "policy.park_refused", format!("{}; {why}", warning.reason))
        }
    };
    let subject = format!("container {id}");
    let noted = parts.store.audit(Uuid::now_v7(), user, Some(project), action, &subject, &detail).await;
    if let Err(error) = noted {
        tracing::error!(container.id = %id, error = %error, "not in the audit trail");
    }
}
