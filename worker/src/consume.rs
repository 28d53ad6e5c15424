//! Intake: a free slot, a wake-up, a claim, and the acknowledgement at once; from then on the lease protects the job.

use crate::node::NodeContext;
use crate::run::run_job;
use crate::settings::Parts;
use mothball_domain::id::JobId;
use mothball_domain::state::JobState;
use mothball_queue::{Delivery, Target};
use mothball_store::{Claim, StoreError};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
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
    let at_work: AtWork = AtWork::default();
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
        let Some(job) = take(&parts, &node, delivery, &at_work, &shutdown).await else { continue };
        let id = job.id;
        at_work.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        // On the heap: the state of a whole run is large.
        let work = Box::pin(run_job(Arc::clone(&parts), Arc::clone(&node), job, shutdown.clone()));
        let at_work = Arc::clone(&at_work);
        running.spawn(async move {
            let _leaves = Leaves { at_work, id };
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
    at_work: &AtWork,
    shutdown: &CancellationToken,
) -> Option<Box<mothball_domain::job::Job>> {
    let id = delivery.job;
    let claim = match claim(parts, node, id, at_work, shutdown).await {
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
    at_work: &AtWork,
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
            Ok(Claim::Held) if tries > 0 => return ours_by_a_lost_answer(parts, node, id, at_work).await,
            done => return done,
        }
    }
}

/// A claim that failed may have been written all the same: the job is then held by this very run, which does not work on it.
async fn ours_by_a_lost_answer(
    parts: &Parts,
    node: &NodeContext,
    id: JobId,
    at_work: &AtWork,
) -> Result<Claim, StoreError> {
    let Some(job) = parts.store.job(id).await? else { return Ok(Claim::Over) };
    let ours =
        job.state == JobState::Running && job.lease.as_ref().is_some_and(|l| l.instance == node.run.instance);
    let busy = at_work.lock().unwrap_or_else(PoisonError::into_inner).contains(&id);
    Ok(if ours && !busy { Claim::Claimed(Box::new(job)) } else { Claim::Held })
}

/// The jobs that this worker's tasks run.
type AtWork = Arc<Mutex<HashSet<JobId>>>;

/// Takes a job off the list when its task ends, however it ends.
struct Leaves {
    at_work: AtWork,
    id: JobId,
}

impl Drop for Leaves {
    fn drop(&mut self) {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
