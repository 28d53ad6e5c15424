//! What a worker does before it takes jobs: thaw what a dead predecessor froze, take its leftovers away, and have its
//! jobs run again at once. And what it does now and then: take away what its own jobs could not.

use crate::freeze;
use crate::lock::FileLock;
use crate::node::NodeContext;
use crate::settings::Parts;
use crate::snapshot::leftovers;
use crate::uploads::Uploads;
use mothball_queue::Target;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How often a worker that runs looks for what jobs could not take away themselves.
const SWEEP_EVERY: Duration = Duration::from_mins(10);

/// How long a start waits for unfinished uploads to be taken out of the registry.
const UPLOADS_LIMIT: Duration = Duration::from_secs(10);

/// Puts the node in order. What cannot be done now is logged: the journal and the leases stand for it.
pub(crate) async fn run(parts: &Parts, node: &NodeContext, uploads: &Uploads) {
    // What cannot be thawed now is tried again with every look at Docker.
    freeze::sweep(&parts.engine, &node.journal(), &node.frozen_now()).await;
    match parts.store.rescue_node(&node.run.name, &node.run.instance).await {
        Ok(rescued) => {
            for id in rescued {
                tracing::warn!(job.id = %id, "taking up a job that a dead worker had left");
                if let Err(error) = parts.queue.wake(&Target::Node(node.run.name.clone()), id).await {
                    tracing::warn!(job.id = %id, error = %error, "the scheduler will wake us for it instead");
                }
            }
        }
        Err(error) => {
            tracing::warn!(error = %error, "a dead worker's jobs are taken up when their leases end");
        }
    }
    leftovers::remove(parts, node).await;
    if timeout(UPLOADS_LIMIT, uploads.sweep(&parts.registry)).await.is_err() {
        tracing::warn!("unfinished uploads of a dead worker are looked at again later");
    }
    forget_gone(parts, node).await;
    if let Err(error) = FileLock::sweep(&node.locks_dir) {
        tracing::warn!(error = %error, "the locks of dead workers could not be swept");
    }
}

/// Takes away, now and then until `ended`, what jobs that are over have left behind because Docker or the registry would
/// not let go of it at the time.
pub(crate) async fn sweep(parts: &Parts, node: &NodeContext, uploads: &Uploads, ended: CancellationToken) {
    while ended.run_until_cancelled(sleep(SWEEP_EVERY)).await.is_some() {
        leftovers::remove(parts, node).await;
        uploads.sweep(&parts.registry).await;
        forget_gone(parts, node).await;
    }
}

/// Forgets what is kept of containers that are gone: the images that no container is made of any more.
async fn forget_gone(parts: &Parts, node: &NodeContext) {
    // What is kept first: a container that is made after this look is not in the list, and neither is what it needs.
    let kept = node.bases.list().unwrap_or_default();
    let indexed = node.indexes.list().unwrap_or_default();
    let containers = match parts.engine.list_all().await {
        Ok(containers) => containers,
        Err(error) => {
            tracing::debug!(error = %error, "containers could not be listed; looking again later");
            return;
        }
    };
    for gone in indexed.iter().filter(|id| !containers.iter().any(|(container, _)| container == *id)) {
        if let Err(error) = node.indexes.forget(gone) {
            tracing::warn!(error = %error, "the index of a container that is gone could not be forgotten");
        }
    }
    for base in kept.iter().filter(|base| !containers.iter().any(|(_, image)| image == base.as_str())) {
        if let Err(error) = node.bases.forget(base) {
            tracing::warn!(error = %error, "an image's config could not be forgotten");
        }
    }
}
