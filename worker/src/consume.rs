//! Intake: a free slot, a wake-up, a claim, and the acknowledgement at once; from then on the lease protects the job.

use crate::node::NodeContext;
use crate::run::run_job;
use crate::settings::Parts;
use mothball_domain::id::JobId;
use mothball_queue::{Delivery, Target};
use mothball_store::{Claim, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Tries to claim before a wake-up is given back; the store's due times bring the job again in any case.
const CLAIM_TRIES: u32 = 5;

/// Takes jobs until `shutdown`, then waits for those that run, which stop by the same token.
pub(crate) async fn run(parts: Arc<Parts>, node: Arc<NodeContext>, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(usize::from(parts.settings.concurrency)));
    let targets = vec![Target::Node(node.run.name.clone()), Target::Any];
    let mut subscription = parts.queue.subscribe(targets, parts.settings.concurrency, shutdown.clone());
    let mut running = JoinSet::new();
    loop {
        while let Some(ended) = running.try_join_next() {
            report(ended);
        }
        // The slot first: a wake-up is never held back unacknowledged for want of one.
        let slot = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let Ok(slot) = slot else { break };
        let delivery = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            delivery = subscription.recv() => delivery,
        };
        let Some(delivery) = delivery else { break };
        let Some(job) = take(&parts, &node, delivery, &shutdown).await else { continue };
        let work = run_job(Arc::clone(&parts), Arc::clone(&node), job, shutdown.clone());
        running.spawn(async move {
            work.await;
            drop(slot);
        });
    }
    while let Some(ended) = running.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        // Its lease ends by itself, and the job is tried again.
        tracing::error!(error = %error, "a job's task ended by a defect");
    }
}

/// Claims the job of a wake-up, and acknowledges the wake-up whatever came of the claim.
async fn take(
    parts: &Parts,
    node: &NodeContext,
    delivery: Delivery,
    shutdown: &CancellationToken,
) -> Option<Box<mothball_domain::job::Job>> {
    let id = delivery.job;
    let claim = match claim(parts, node, id, shutdown).await {
        Ok(claim) => claim,
        Err(error) => {
            tracing::warn!(job.id = %id, error = %error, "the job could not be claimed; giving the wake-up back");
            if let Err(error) = delivery.nack().await {
                tracing::debug!(job.id = %id, error = %error, "the wake-up could not be given back");
            }
            return None;
        }
    };
    if let Err(error) = delivery.ack().await {
        // It comes again, and the claim then says that the job is held.
        tracing::debug!(job.id = %id, error = %error, "the wake-up could not be acknowledged");
    }
    match claim {
        Claim::Claimed(job) => Some(job),
        refused => {
            tracing::debug!(job.id = %id, claim = ?refused, "not ours to run");
            None
        }
    }
}

async fn claim(
    parts: &Parts,
    node: &NodeContext,
    id: JobId,
    shutdown: &CancellationToken,
) -> Result<Claim, StoreError> {
    let mut wait = Duration::from_millis(200);
    let mut tries = 0;
    loop {
        let settings = &parts.settings;
        match parts.store.claim(id, &node.run.name, &node.run.instance, settings.lease).await {
            Err(_) if tries < CLAIM_TRIES && !shutdown.is_cancelled() => {
                tries += 1;
                sleep(wait).await;
                wait *= 2;
            }
            done => return done,
        }
    }
}
