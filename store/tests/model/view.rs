//! What can be seen of a store, a line for each thing, to be compared with the model's.

use crate::world::{Seen, World, project};
use anyhow::Result;
use mothball_domain::container::Container;
use mothball_domain::id::ContainerId;
use mothball_domain::job::Job;

pub(super) async fn of(w: &World, seen: &Seen) -> Result<Vec<String>> {
    let mut lines: Vec<String> = seen.jobs.iter().rev().map(job).collect();
    for number in 1.. {
        let id = ContainerId(number);
        let line = match seen.containers.iter().find(|c| c.id == id) {
            Some(found) => container(found),
            // It is deleted, or the last one is behind us.
            None => match w.store.container(id).await? {
                Some(found) => container(&found),
                None => break,
            },
        };
        lines.push(line);
    }
    for (node, reservations) in &seen.nodes {
        let held: Vec<(u64, &Vec<u32>)> = reservations.held.iter().map(|(id, gpus)| (id.0, gpus)).collect();
        let alive = node.stopped_at.is_none();
        lines.push(format!("node {} alive {alive} drained {} holds {held:?}", node.name, node.drained));
    }
    for image in w.store.images(&project("p"), None, 1000).await?.items {
        let previous: Vec<&str> = image.previous.iter().map(|p| &p.digest.hex()[..2]).collect();
        lines.push(format!("image {} is {} was {previous:?}", image.image, &image.digest.hex()[..2]));
    }
    Ok(lines)
}

fn job(job: &Job) -> String {
    let checkpoint = &job.checkpoint;
    format!(
        "job {} {} {} attempt {} fence {} node {:?} container {:?} held by {:?} cancel {} waits {} next {} published {} \
         recorded {} made {:?} frozen {} removed {}",
        job.id,
        job.kind(),
        job.state,
        job.attempt,
        job.fence,
        job.node.as_ref().map(ToString::to_string),
        job.container.map(|c| c.0),
        job.lease.as_ref().map(|l| l.instance.clone()),
        job.cancel_requested,
        job.waiting_for.is_some(),
        job.next_attempt_at.is_some(),
        job.published,
        checkpoint.recorded,
        checkpoint.created,
        checkpoint.frozen.is_some(),
        checkpoint.removed_at.is_some(),
    )
}

fn container(c: &Container) -> String {
    format!(
        "container {} {} {} node {:?} docker {:?} gpus {:?} job {:?} parked {:?} bills {} open {} protected {}",
        c.id,
        c.name,
        c.state,
        c.node.as_ref().map(ToString::to_string),
        c.docker_id,
        c.gpus,
        c.job.map(|id| id.to_string()),
        c.parked_image.as_ref().map(ToString::to_string),
        c.billed.len(),
        c.billed.last().is_some_and(|b| b.to.is_none()),
        c.protected,
    )
}
