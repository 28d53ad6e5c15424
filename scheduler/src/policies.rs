//! What projects let Mothball do by itself: their containers are looked at in turn, warned of, and parked. The store
//! decides in one step with what it writes, so any number of schedulers may go round.

use crate::Parts;
use crate::attend::attend;
use crate::once::Round;
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::policy::ParkPolicy;
use mothball_store::{Policed, Policing, StoreError};
use rust_decimal::Decimal;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Containers read in one step.
const BATCH: usize = 200;

pub(crate) async fn run(parts: &Parts, shutdown: &CancellationToken) {
    let mut ticks = interval(parts.settings.policy_tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = Round::Policies.go(parts, shutdown).await {
            tracing::warn!(error = %error, "what policies say could not be looked up; trying again");
        }
    }
}

pub(crate) async fn round(parts: &Parts, shutdown: &CancellationToken) -> Result<(), StoreError> {
    for project in parts.store.projects_with_park_policy().await? {
        let policy = parts.store.park_policy(&project).await?;
        let spent = match policy.budget_per_month {
            Some(_) => parts.store.spent_this_month(&project).await?,
            None => Decimal::ZERO,
        };
        let policing = Policing {
            spent,
            seen_within: parts.settings.seen_within,
            max_attempts: parts.settings.max_attempts,
            alive_within: parts.settings.alive_within,
        };
        let mut after = None;
        loop {
            let (concerned, next) = parts.store.concerned(&project, &policy, &policing, after, BATCH).await?;
            for container in concerned {
                if shutdown.is_cancelled() {
                    return Ok(());
                }
                police(parts, container, &policing).await?;
            }
            match next {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        if policy == ParkPolicy::default() {
            // Its warnings are withdrawn: there is nothing to look at any more.
            parts.store.end_park_policy(&project).await?;
        }
    }
    Ok(())
}

async fn police(parts: &Parts, id: ContainerId, policing: &Policing) -> Result<(), StoreError> {
    let policed = match parts.store.police(id, JobId(Uuid::now_v7()), policing).await {
        // One container that changes all the time, or cannot be read, must not stop the others.
        Err(error @ (StoreError::Contended(_) | StoreError::Corrupt(_))) => {
            tracing::warn!(container.id = %id, error = %error, "a container's policy could not be applied");
            return Ok(());
        }
        other => other?,
    };
    let done = match &policed {
        Policed::Nothing => return Ok(()),
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
    match policed {
        // It is due anyway: this is only haste.
        Policed::Parking(_, job) => attend(parts, job.id).await,
        _ => Ok(()),
    }
}

/// Writes what was done into the audit trail, in the name of the container's owner, whose it is.
async fn note(parts: &Parts, id: ContainerId, policed: &Policed) {
    let (user, project, action, detail) = match policed {
        Policed::Nothing => return,
        Policed::Warned(warning, c) => {
            let detail = match warning.protected {
                true => format!("{}; it is protected, and stays", warning.reason),
                false => format!("{}; it is parked at {}", warning.reason, warning.park_at),
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
