//! The model's rules of placing, attending, ending, cancelling and retrying.

use super::ops::How;
use super::rules::{Due, Job, Model, Node, allowed, parks};
use mothball_domain::container::ContainerState;
use mothball_domain::id::{Fence, JobId};
use mothball_domain::job::JobSpec;
use mothball_domain::state::JobState;

impl Model {
    /// Gives back a container's GPUs and room.
    fn release(&mut self, container: u64) {
        self.container(container).gpus.clear();
        for node in self.nodes.values_mut() {
            node.held.remove(&container);
        }
        self.wake();
    }

    /// Takes a launch off its node.
    pub(super) fn unplace(&mut self, id: JobId) {
        let Some(container) = self.job(id).container else { return };
        self.release(container);
        self.container(container).node = None;
        self.job(id).node = None;
    }

    /// A job that is bound to a node which does not report waits for it from the first.
    pub(super) fn wait_for_silent_node(&mut self, id: JobId) {
        let node = self.job(id).node.clone();
        if node.is_some_and(|node| !self.nodes[&node].alive) {
            self.job(id).waits = true;
        }
    }

    /// Finds a node for a launch, or notes that it waits.
    pub(super) fn place(&mut self, id: JobId) {
        let Some(container) = self.job(id).container else { return };
        let wants = self.container(container).wants;
        let usable = |node: &&Node| node.alive && !node.drained;
        let largest = self.nodes.values().filter(usable).map(|node| node.gpus).max();
        let goes_before = |job: &Job| {
            let unplaced = matches!(job.state, JobState::Queued | JobState::Retrying) && job.node.is_none();
            let first = job.id < id && job.spec == JobSpec::Launch && !job.cancel;
            let asks = job.container.map_or(0, |c| self.containers[&c].wants);
            unplaced && first && asks > 0 && largest.is_some_and(|largest| asks <= largest)
        };
        let its_turn = wants == 0 || !self.jobs.values().any(goes_before);
        let mut best: Option<(u32, usize, String, Vec<u32>)> = None;
        for (name, node) in self.nodes.iter().filter(|(_, node)| usable(node)) {
            let taken: Vec<u32> = node.held.values().flatten().copied().collect();
            let free: Vec<u32> = (0..node.gpus).filter(|gpu| !taken.contains(gpu)).collect();
            if free.len() < wants as usize {
                continue;
            }
            let left = free.len() as u32 - wants;
            let candidate = (left, node.held.len(), name.clone(), free[..wants as usize].to_vec());
            if best.as_ref().is_none_or(|best| candidate < *best) {
                best = Some(candidate);
            }
        }
        let Some((_, _, name, gpus)) = best.filter(|_| its_turn) else {
            self.job(id).waits = true;
            return;
        };
        self.node(&name).held.insert(container, gpus.clone());
        let there = self.container(container);
        (there.node, there.gpus) = (Some(name.clone()), gpus);
        let job = self.job(id);
        (job.node, job.waits) = (Some(name), false);
    }

    /// The holder is dead: another attempt, or the end.
    pub(super) fn rescue(&mut self, id: JobId) {
        let job = self.job(id);
        if job.attempt < 3 || (job.cancel && !job.frozen) {
            (job.state, job.lease, job.next, job.offered) = (JobState::Retrying, None, None, false);
        } else {
            self.end(id, JobState::Failed);
        }
    }

    /// Ends a job without success.
    pub(super) fn end(&mut self, id: JobId, state: JobState) {
        let job = self.job(id);
        (job.state, job.lease, job.next, job.waits, job.due) = (state, None, None, false, Due::Never);
        job.offered = false;
        let job = job.clone();
        let Some(id) = job.container.filter(|id| self.containers[id].job == Some(job.id)) else { return };
        self.container(id).job = None;
        if job.spec == JobSpec::Launch {
            let container = self.container(id);
            container.docker.clone_from(&job.created);
            container.state = match (&container.parked, &job.created) {
                (Some(_), None) => ContainerState::Parked,
                (None, None) if state == JobState::Cancelled => ContainerState::Deleted,
                _ => ContainerState::Error,
            };
            if job.created.is_none() {
                self.release(id);
            }
        } else if job.removed {
            self.removed(&job, id);
        } else if job.spec == JobSpec::Delete {
            let container = self.container(id);
            if container.state == ContainerState::Deleting {
                container.state = if container.open { ContainerState::Ready } else { ContainerState::Lost };
            }
        }
    }

    fn removed(&mut self, job: &Job, id: u64) {
        let container = self.container(id);
        (container.open, container.docker) = (false, None);
        container.state = ContainerState::Deleted;
        if let Some(image) = parks(&job.spec) {
            (container.state, container.parked) = (ContainerState::Parked, Some(image));
        }
        self.release(id);
    }

    pub(super) fn settle(&mut self, id: JobId, fence: Fence, how: How) -> String {
        let job = self.job(id);
        if job.state != JobState::Running || job.fence != fence.0 {
            return "lost".into();
        }
        job.offered = false;
        match how {
            How::Succeeded => self.succeed(id),
            How::Permanent => self.end(id, JobState::Failed),
            How::Cancelled => self.end(id, JobState::Cancelled),
            How::TransientNow | How::TransientLater if job.attempt >= 3 => self.end(id, JobState::Failed),
            How::TransientNow | How::TransientLater => {
                let later = how == How::TransientLater && !job.cancel;
                (job.state, job.lease) = (JobState::Retrying, None);
                job.next = (!job.cancel).then_some(later);
                job.due = if later { Due::Later } else { Due::Now };
            }
            How::Interrupted => {
                (job.state, job.lease, job.next, job.due) = (JobState::Queued, None, None, Due::Now);
                job.attempt -= 1;
            }
        }
        format!("done {}", self.job(id).state)
    }

    fn succeed(&mut self, id: JobId) {
        let job = self.job(id);
        (job.state, job.lease, job.next, job.due) = (JobState::Succeeded, None, None, Due::Never);
        job.offered = false;
        let job = job.clone();
        if let JobSpec::DeleteImage { image, .. } = &job.spec {
            let image = image.to_string();
            if let Some(found) = self.images.remove(&image) {
                self.deleted.insert(image, found);
            }
        }
        let Some(id) = job.container else { return };
        self.container(id).job = None;
        let container = self.container(id);
        match &job.spec {
            JobSpec::Launch | JobSpec::Start => {
                container.state = ContainerState::Ready;
                container.docker = Some(format!("d-{}", job.id));
                container.parked = None;
                container.bill();
            }
            JobSpec::Stop => container.state = ContainerState::Stopped,
            spec if spec.removes_container() => self.removed(&job, id),
            _ => {}
        }
    }

    pub(super) fn attend(&mut self, id: JobId) -> String {
        let job = self.job(id);
        if job.state.is_final() {
            return "nothing".into();
        }
        if job.lease.as_ref().is_some_and(|lease| lease.2) || job.next == Some(true) {
            job.due = Due::Later;
            return "nothing".into();
        }
        if job.state == JobState::Running {
            self.rescue(id);
        }
        let job = self.job(id).clone();
        let alive = job.node.as_ref().is_none_or(|node| self.nodes[node].alive);
        if !job.state.is_final() && job.cancel && (!job.frozen || !alive) {
            self.end(id, JobState::Cancelled);
        }
        if self.job(id).state.is_final() {
            return format!("settled {}", self.job(id).state);
        }
        if alive && job.node.is_some() {
            self.job(id).waits = false;
        }
        let drained = job.node.as_ref().is_some_and(|node| self.nodes[node].drained);
        if (!alive || drained) && can_move(&job) {
            self.unplace(id);
        } else if !alive {
            self.job(id).waits = true;
        }
        if job.spec == JobSpec::Launch && self.job(id).node.is_none() {
            self.place(id);
        }
        let job = self.job(id);
        job.due = Due::Soon;
        job.offered = job.node.is_some() || !job.waits;
        if job.offered { format!("publish {:?}", published(job)) } else { "nothing".into() }
    }

    /// What has not begun on a node that is drained leaves it.
    pub(super) fn clear_of_launches(&mut self, node: &str) {
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            let job = self.job(id).clone();
            if !job.state.is_final() && job.node.as_deref() == Some(node) && can_move(&job) {
                self.unplace(id);
                let job = self.job(id);
                job.offered = false;
                job.due = if job.next == Some(true) { Due::Later } else { Due::Now };
            }
        }
    }

    pub(super) fn cancel(&mut self, id: JobId) -> String {
        let job = self.job(id);
        if job.state.is_final() {
            return format!("over {}", job.state);
        }
        let unheld = job.state != JobState::Running;
        let first = !std::mem::replace(&mut job.cancel, true);
        if unheld && !job.frozen {
            self.end(id, JobState::Cancelled);
            return "done cancelled".into();
        }
        if unheld && first {
            (job.next, job.due) = (None, Due::Now);
        }
        format!("requested {}", job.state)
    }

    pub(super) fn retry(&mut self, id: JobId) -> String {
        let job = self.job(id).clone();
        if !matches!(job.state, JobState::Failed | JobState::Cancelled) {
            return format!("not failed {}", job.state);
        }
        if let Some(other) = self.holder_of_image(&job.spec) {
            return format!("busy {}", other.id);
        }
        if let JobSpec::DeleteImage { image, digest } | JobSpec::RestoreImage { image, digest } = &job.spec {
            let now = self.images.get(&image.to_string()).map(|(now, _)| crate::world::digest(*now));
            if now.as_ref() != Some(digest) {
                return "impossible".into();
            }
        }
        if let Some(container) = job.container.map(|id| &self.containers[&id]) {
            if let Some(other) = self.unfinished(container.job) {
                return format!("busy {}", other.id);
            }
            let failed_launch = job.spec == JobSpec::Launch && container.state == ContainerState::Error;
            if !failed_launch && !allowed(&job.spec, container.state) {
                return "impossible".into();
            }
            if container.protected && job.spec.removes_container() {
                return "impossible".into();
            }
        }
        let again = self.job(id);
        again.state = JobState::Queued;
        (again.attempt, again.published, again.cancel, again.next) = (0, 0, false, None);
        (again.recorded, again.removed) = (false, false);
        if let Some(container) = job.container {
            self.container(container).job = Some(id);
            if job.spec == JobSpec::Launch {
                self.container(container).state = ContainerState::Initializing;
                if job.created.is_none() {
                    self.unplace(id);
                    self.place(id);
                }
            } else {
                let there = &self.containers[&container];
                let node = there.node.clone().filter(|_| there.state != ContainerState::Parked);
                self.job(id).node = node;
                self.wait_for_silent_node(id);
            }
        }
        let job = self.job(id);
        job.offered = !job.waits;
        job.due = if job.waits { Due::Soon } else { Due::Now };
        "queued queued".into()
    }

    pub(super) fn observe(&mut self, id: u64, running: Option<bool>) {
        let busy = self.unfinished(self.containers[&id].job).is_some();
        let container = self.container(id);
        let state = match running {
            Some(true) => ContainerState::Ready,
            Some(false) => ContainerState::Stopped,
            None => ContainerState::Lost,
        };
        if busy || !container.state.exists() || container.state == state {
            return;
        }
        container.state = state;
        if running.is_some() {
            container.bill();
        } else {
            container.open = false;
        }
    }

    pub(super) fn forget(&mut self, id: u64) -> bool {
        let busy = self.unfinished(self.containers[&id].job).is_some();
        let container = self.container(id);
        if busy || !matches!(container.state, ContainerState::Lost | ContainerState::Error) {
            return false;
        }
        (container.state, container.open) = (ContainerState::Deleted, false);
        self.release(id);
        true
    }
}

fn can_move(job: &Job) -> bool {
    job.spec == JobSpec::Launch && job.state != JobState::Running && job.created.is_none()
}

fn published(job: &Job) -> Option<mothball_domain::name::NodeName> {
    job.node.as_deref().map(crate::world::node_name)
}

impl super::rules::Container {
    fn bill(&mut self) {
        if !self.open {
            (self.open, self.bills) = (true, self.bills + 1);
        }
    }
}
