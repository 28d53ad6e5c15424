//! Gives a launch a node and its GPUs, all or none, first come first served.

use crate::StoreError;
use crate::db::tx::Tx;
use crate::keys;
use crate::ops::records;
use jiff::Timestamp;
use mothball_domain::container::Container;
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::job::Job;
use mothball_domain::name::NodeName;
use mothball_domain::node::{Node, Reservations};
use mothball_domain::placement::{Candidate, Placement, place};
use std::time::Duration;

/// Most nodes of one platform.
pub(crate) const NODES_MAX: usize = 10_000;
/// How many earlier launches are asked whether they come first.
const EARLIER_MAX: usize = 100;
/// How many of them are read in one step.
const EARLIER_STEP: usize = 5;

/// Whether a node's worker reported lately.
pub(crate) fn is_alive(node: &Node, now: Timestamp, alive_within: Duration) -> bool {
    let silent_ms = now.as_millisecond() - node.heartbeat_at.as_millisecond();
    node.stopped_at.is_none() && silent_ms <= alive_within.as_millis() as i64
}

/// Takes the node and the GPUs away from a launch that has made nothing there.
pub(crate) async fn unplace(
    tx: &mut Tx<'_>,
    job: &mut Job,
    container: &mut Container,
) -> Result<(), StoreError> {
    records::release_place(tx, container).await?;
    (job.node, container.node, container.node_uid) = (None, None, None);
    Ok(())
}

/// Places the launch of `container`, or says in the job what it waits for. Writes the reservation and the
/// node into both; the caller writes job and container.
pub(crate) async fn try_place(
    tx: &mut Tx<'_>,
    job: &mut Job,
    container: &mut Container,
    alive_within: Duration,
) -> Result<bool, StoreError> {
    // Read first, and so part of what the commit checks: room released from here on makes this decision anew.
    tx.get::<u64>(keys::RELEASES).await?;
    let candidates = candidates(tx, alive_within).await?;
    let gpus = container.launch.flavor.gpus;
    match place(&candidates, gpus) {
        Placement::Wait(why) => {
            job.waiting_for = Some(why);
            Ok(false)
        }
        Placement::Place { node, gpus } => {
            if !gpus.is_empty()
                && let Some(earlier) = earlier_launch(tx, job.id, &candidates).await?
            {
                job.waiting_for =
                    Some(format!("its turn: {earlier} asked for GPUs earlier and waits for room too"));
                return Ok(false);
            }
            let key = keys::reservations(&node);
            let mut reservations: Reservations = tx.get(&key).await?.unwrap_or_default();
            reservations.held.insert(container.id, gpus.clone());
            tx.put(&key, &reservations)?;
            container.node_uid = candidates.iter().find(|c| c.node.name == node).map(|c| c.node.uid.clone());
            container.node = Some(node.clone());
            container.gpus = gpus;
            job.node = Some(node);
            job.waiting_for = None;
            Ok(true)
        }
    }
}

async fn candidates(tx: &mut Tx<'_>, alive_within: Duration) -> Result<Vec<Candidate>, StoreError> {
    let names: Vec<NodeName> =
        tx.scan(keys::NODES, NODES_MAX).await?.into_iter().filter_map(|n| NodeName::new(n).ok()).collect();
    tx.load(&names.iter().flat_map(|n| [keys::node(n), keys::reservations(n)]).collect::<Vec<_>>()).await?;
    let now = tx.now().await?;
    let mut candidates = Vec::with_capacity(names.len());
    for name in &names {
        let Some(node) = tx.get::<Node>(&keys::node(name)).await? else { continue };
        let reservations = tx.get(&keys::reservations(name)).await?.unwrap_or_default();
        let alive = is_alive(&node, now, alive_within);
        candidates.push(Candidate { node, reservations, alive });
    }
    Ok(candidates)
}

/// An earlier launch that waits for GPUs, and that some live node could hold if it were empty: it comes first.
async fn earlier_launch(
    tx: &mut Tx<'_>,
    id: JobId,
    candidates: &[Candidate],
) -> Result<Option<JobId>, StoreError> {
    let largest =
        candidates.iter().filter(|c| c.alive && !c.node.drained).map(|c| c.node.report.gpus.len()).max();
    let waiting = tx.scan(keys::WAITING, EARLIER_MAX).await?;
    let before: Vec<JobId> =
        waiting.iter().filter_map(|m| m.parse::<JobId>().ok()).take_while(|m| *m < id).collect();
    let still_waits = |job: &&Job| !job.state.is_final() && job.node.is_none() && !job.cancel_requested;
    // Mostly the first one is in the way: not all that wait are read for each that waits.
    for few in before.chunks(EARLIER_STEP) {
        let jobs: Vec<Job> = tx.get_many(&few.iter().map(|id| keys::job(*id)).collect::<Vec<_>>()).await?;
        let waiting: Vec<(JobId, ContainerId)> =
            jobs.iter().filter(still_waits).filter_map(|job| Some((job.id, job.container?))).collect();
        tx.load(&waiting.iter().map(|(_, c)| keys::container(*c)).collect::<Vec<_>>()).await?;
        for (job, container) in waiting {
            let Some(container) = records::container(tx, container).await? else { continue };
            let wanted = container.launch.flavor.gpus as usize;
            if wanted > 0 && largest.is_some_and(|l| wanted <= l) {
                return Ok(Some(job));
            }
        }
    }
    Ok(None)
}
