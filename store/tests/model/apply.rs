//! A step, as a call of the store, and the store's answer in words that the model speaks too.

use super::calls::Call;
use super::ops::How;
use crate::world::*;
use anyhow::Result;
use mothball_domain::job::{Checkpoint, Frozen, JobSpec, Then};
use mothball_store::{
    Attend, Cancelled, Claim, ContainerChange, Effect, Observed, Outcome, Recorded, Renewal, Restored,
    Retried, Settled, Submitted,
};
use std::time::Duration;

pub(super) async fn apply(w: &World, call: &Call) -> Result<String> {
    let store = &w.store;
    Ok(match call {
        Call::Nothing => String::new(),
        Call::Submit(submission) => submitted(store.submit(submission).await?),
        Call::Restore(restore) => match store.restore_image(restore).await? {
            Restored::Done(_, job) => format!("new {}", job.id),
            Restored::Busy(job) => format!("busy {}", job.id),
            Restored::Taken(_) => "taken".into(),
            Restored::Nothing(_) => "nothing".into(),
            Restored::Quota(_) => "quota".into(),
        },
        Call::Claim { job, node, instance, lasts } => {
            match store.claim(*job, node, instance, lease(*lasts)).await? {
                Claim::Claimed(job) => format!("claimed {} {}", job.attempt, job.fence),
                Claim::Held => "held".into(),
                Claim::NotDue => "not due".into(),
                Claim::Elsewhere => "elsewhere".into(),
                Claim::Over => "over".into(),
            }
        }
        Call::Renew { job, fence, lasts } => renewed(store.renew(*job, *fence, lease(*lasts), None).await?),
        Call::Checkpoint { job, fence, created, frozen, removed } => {
            let since = jiff::Timestamp::UNIX_EPOCH;
            let checkpoint = Checkpoint {
                created: created.clone(),
                frozen: frozen.then(|| Frozen { docker_id: "d".into(), since }),
                removed_at: removed.then_some(since),
                ..Checkpoint::default()
            };
            renewed(store.checkpoint(*job, *fence, &at_checkpoint(checkpoint)).await?)
        }
        Call::Record { job, fence, digest } => {
            recorded(store.record_image(*job, *fence, &draft(*digest)).await?)
        }
        Call::Settle { job, fence, how, spec } => {
            let docker_id = format!("d-{job}");
            match store.settle(*job, *fence, &outcome(*how, spec, docker_id)).await? {
                Settled::Done(job) => format!("done {}", job.state),
                Settled::Lost => "lost".into(),
            }
        }
        Call::Attend { job } => match w.attend(*job).await? {
            Attend::Publish(node) => format!("publish {node:?}"),
            Attend::Settled(job) => format!("settled {}", job.state),
            Attend::Nothing => "nothing".into(),
        },
        Call::MarkPublished { job } => {
            store.mark_published(*job).await?;
            String::new()
        }
        Call::Cancel { job } => match store.cancel(*job).await? {
            Cancelled::Done(job) => format!("done {}", job.state),
            Cancelled::Requested(job) => format!("requested {}", job.state),
            Cancelled::Over(job) => format!("over {}", job.state),
            Cancelled::NoJob => "no job".into(),
        },
        Call::Retry { job } => match store.retry(*job, LONG).await? {
            Retried::Queued(job) => format!("queued {}", job.state),
            Retried::NotFailed(job) => format!("not failed {}", job.state),
            Retried::Busy(job) => format!("busy {}", job.id),
            Retried::Impossible(_) => "impossible".into(),
            Retried::NoJob => "no job".into(),
        },
        Call::Register { run, gpus } => {
            store.register_node(run, &report(*gpus)).await?;
            String::new()
        }
        Call::StopNode { run } => {
            store.node_stopped(run).await?;
            String::new()
        }
        Call::Drain { node, drained } => {
            store.drain_node(node, *drained).await?;
            String::new()
        }
        Call::RescueNode { node, instance } => format!("{:?}", store.rescue_node(node, instance).await?),
        Call::Observe { id, node_uid, docker_id, running } => {
            let (docker_id, running) = (docker_id.clone(), *running);
            store.observe(node_uid, &Observed { id: *id, docker_id, running, writable_bytes: None }).await?;
            String::new()
        }
        Call::Forget { id } => store.forget_container(*id).await?.to_string(),
        Call::Protect { id, protected } => {
            let change = ContainerChange { protected: Some(*protected), ..ContainerChange::default() };
            store.change_container(*id, &change).await?.is_some().to_string()
        }
    })
}

fn lease(lasts: bool) -> Duration {
    if lasts { LONG } else { Duration::ZERO }
}

fn renewed(renewal: Renewal) -> String {
    match renewal {
        Renewal::Held { cancel } => format!("held, cancel {cancel}"),
        Renewal::Lost => "lost".into(),
    }
}

fn recorded(recorded: Recorded) -> String {
    match recorded {
        Recorded::Held { cancel } => format!("held, cancel {cancel}"),
        Recorded::Lost => "lost".into(),
        Recorded::Leaving(job) => format!("leaving by {job}"),
    }
}

fn submitted(submitted: Submitted) -> String {
    match submitted {
        Submitted::New(job) => format!("new {}", job.id),
        Submitted::Joined(job) => format!("joined {}", job.id),
        Submitted::Replayed(job) => format!("replayed {}", job.id),
        Submitted::IdempotencyConflict(id) => format!("conflict {id}"),
        Submitted::Busy(job) => format!("busy {}", job.id),
        Submitted::NameTaken(id) => format!("name taken {id}"),
        Submitted::NoContainer => "no container".into(),
        Submitted::NoImage => "no image".into(),
        Submitted::NotNow(_) => "not now".into(),
        Submitted::Protected => "protected".into(),
        Submitted::Quota(why) => why,
    }
}

fn outcome(how: How, spec: &JobSpec, docker_id: String) -> Outcome {
    let effect = match spec {
        JobSpec::Launch | JobSpec::Start => Effect::Running { docker_id, ports: Vec::new() },
        JobSpec::Stop => Effect::Stopped,
        JobSpec::DeleteImage { .. } => Effect::ImageRemoved { undo: LONG },
        JobSpec::Snapshot { then: Then::Keep, .. }
        | JobSpec::RestoreImage { .. }
        | JobSpec::PurgeImage { .. } => Effect::None,
        JobSpec::Delete | JobSpec::Snapshot { .. } => Effect::Removed,
    };
    match how {
        How::Succeeded => Outcome::Succeeded(effect),
        How::TransientNow => failed(transient(), Duration::ZERO),
        How::TransientLater => failed(transient(), LONG),
        How::Permanent => failed(permanent(), LONG),
        How::Interrupted => Outcome::Interrupted,
        How::Cancelled => Outcome::Cancelled,
    }
}
