//! What can be seen of a store and of the model, a line for each thing.

use super::rules::{self, Due, Model};
use crate::world::{Seen, World, project};
use anyhow::Result;
use mothball_domain::container::Container;
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::job::Job;
use mothball_store::Restorable;

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
    for restorable in w.store.restorable_images(&project("p"), None, 1000).await?.items {
        if let Restorable::Deleted(deleted) = restorable {
            let image = deleted.image;
            let previous: Vec<&str> = image.previous.iter().map(|p| &p.digest.hex()[..2]).collect();
            lines.push(format!("deleted {} was {} {previous:?}", image.image, &image.digest.hex()[..2]));
        }
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
        c.metered.iter().filter(|s| s.stored.is_none()).count(),
        c.is_billed(),
        c.protected,
    )
}

impl Model {
    /// What the store must show.
    pub(super) fn view(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.jobs.values().map(rules::Job::line).collect();
        lines.extend(self.containers.values().map(rules::Container::line));
        for (name, node) in &self.nodes {
            let held: Vec<_> = node.held.iter().collect();
            lines.push(format!("node {name} alive {} drained {} holds {held:?}", node.alive, node.drained));
        }
        for (name, (now, previous)) in &self.images {
            let previous: Vec<String> = previous.iter().map(|number| format!("{number:02x}")).collect();
            lines.push(format!("image {name} is {now:02x} was {previous:?}"));
        }
        for (name, (was, previous)) in &self.deleted {
            let previous: Vec<String> = previous.iter().map(|number| format!("{number:02x}")).collect();
            lines.push(format!("deleted {name} was {was:02x} {previous:?}"));
        }
        lines
    }

    /// Jobs of which it is certain whether they are due.
    pub(super) fn due(&self) -> impl Iterator<Item = (JobId, bool)> {
        self.jobs.values().filter(|job| job.due != Due::Soon).map(|job| (job.id, job.due == Due::Now))
    }
}

impl rules::Job {
    fn line(&self) -> String {
        format!(
            "job {} {} {} attempt {} fence {} node {:?} container {:?} held by {:?} cancel {} waits {} next {} \
             published {} recorded {} made {:?} frozen {} removed {}",
            self.id,
            self.spec.kind(),
            self.state,
            self.attempt,
            self.fence,
            self.node,
            self.container,
            self.lease.as_ref().map(|lease| lease.1.clone()),
            self.cancel,
            self.waits,
            self.next.is_some(),
            self.published,
            self.recorded,
            self.created,
            self.frozen,
            self.removed,
        )
    }
}

impl rules::Container {
    fn line(&self) -> String {
        format!(
            "container {} {} {} node {:?} docker {:?} gpus {:?} job {:?} parked {:?} bills {} open {} protected {}",
            self.id,
            self.name,
            self.state,
            self.node,
            self.docker,
            self.gpus,
            self.job.map(|id| id.to_string()),
            self.parked,
            self.bills,
            self.open,
            self.protected,
        )
    }
}
