//! Steps with everything named: what a history's steps are about, as things stand in the model.

use super::ops::{How, Op, What};
use super::rules::{Container, Job, Model, allowed};
use crate::world::*;
use mothball_domain::container::ContainerState;
use mothball_domain::id::{ContainerId, Fence, JobId};
use mothball_domain::job::JobSpec;
use mothball_domain::name::NodeName;
use mothball_domain::state::JobState;
use mothball_store::{NodeRun, Restore, RestoreTo, Submission, Target};

/// Names and GPUs of the nodes.
const NODES: [(&str, u32); 2] = [("a", 2), ("b", 4)];

/// A step with everything named.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Nothing,
    Submit(Submission),
    Restore(Restore),
    Claim { job: JobId, node: NodeName, instance: String, lasts: bool },
    Renew { job: JobId, fence: Fence, lasts: bool },
    Checkpoint { job: JobId, fence: Fence, created: Option<String>, frozen: bool, removed: bool },
    Record { job: JobId, fence: Fence, digest: u8 },
    Settle { job: JobId, fence: Fence, how: How, spec: JobSpec },
    Attend { job: JobId },
    MarkPublished { job: JobId },
    Cancel { job: JobId },
    Retry { job: JobId },
    Register { run: NodeRun, gpus: u32 },
    StopNode { run: NodeRun },
    Drain { node: NodeName, drained: bool },
    RescueNode { node: NodeName, instance: String },
    Observe { id: ContainerId, node_uid: String, docker_id: String, running: Option<bool> },
    Forget { id: ContainerId },
    Protect { id: ContainerId, protected: bool },
}

impl Model {
    /// Gives names to what a step is about, as things stand.
    pub(super) fn call(&self, op: &Op, id: JobId) -> Call {
        let job = |back: usize, fits: &dyn Fn(&Job) -> bool| pick(back, self.jobs.values(), fits);
        let container =
            |back: usize, fits: &dyn Fn(&Container) -> bool| pick(back, self.containers.values(), fits);
        let running = |j: &Job| j.state == JobState::Running;
        let unfinished = |j: &Job| !j.state.is_final();
        let claimable = |j: &Job| {
            let has_place = j.spec != JobSpec::Launch || j.node.is_some();
            unfinished(j)
                && has_place
                && j.next != Some(true)
                && !j.lease.as_ref().is_some_and(|lease| lease.2)
        };
        let there =
            |j: &Job| j.container.is_none_or(|id| self.containers[&id].state != ContainerState::Deleted);
        let fence =
            |job: &Job, stale: bool| Fence(if stale { job.fence.saturating_sub(1) } else { job.fence });
        let run_of = |name: &str, number: u32| run(name, name, &format!("{name}{number}"));
        let node = |index: u8| NODES[usize::from(index)].0;
        let run_now = |index: u8| run_of(node(index), self.nodes.get(node(index)).map_or(0, |n| n.run));
        let call = match *op {
            Op::Launch { user, name, gpus, key } => {
                let target = new_container(&format!("box{name}"), gpus);
                Some(Call::Submit(Self::request(id, user, JobSpec::Launch, target, key)))
            }
            Op::Ask { user, container: back, what, key } => {
                let spec = match what {
                    What::Save { image, then } => snapshot(&format!("base:v{image}"), then),
                    What::Delete => JobSpec::Delete,
                    What::Stop => JobSpec::Stop,
                    What::Start => JobSpec::Start,
                    What::Wake => JobSpec::Launch,
                };
                let fits = |c: &Container| allowed(&spec, c.state);
                let target = container(back, &fits).map(|c| Target::Container(ContainerId(c.id)));
                target.map(|target| Call::Submit(Self::request(id, user, spec.clone(), target, key)))
            }
            Op::DeleteImage { user, image: number } => {
                let names: Vec<&String> = self.images.keys().collect();
                let name = names
                    .get(usize::from(number))
                    .map_or_else(|| format!("base:v{number}"), ToString::to_string);
                let now = self.images.get(&name).map_or(0, |(now, _)| *now);
                let spec = JobSpec::DeleteImage { image: image(&name), digest: digest(now) };
                Some(Call::Submit(Self::request(id, user, spec, Target::Image, None)))
            }
            Op::Restore { user, image: number, previous } => {
                // Mostly one of which there is something to restore.
                let with_previous = self.images.iter().filter(|(_, (_, previous))| !previous.is_empty());
                let names: Vec<&String> =
                    self.deleted.keys().chain(with_previous.map(|(name, _)| name)).collect();
                let name = names
                    .get(usize::from(number))
                    .map_or_else(|| format!("base:v{number}"), ToString::to_string);
                Some(Call::Restore(Restore {
                    project: project("p"),
                    image: image(&name),
                    to: if previous { RestoreTo::Previous } else { RestoreTo::Deleted },
                    user: crate::world::user(["ann", "bob"][usize::from(user)]),
                    job: id,
                    undo: LONG,
                    max_attempts: 3,
                    idempotency: None,
                }))
            }
            Op::Claim { job: back, node: index, lasts } => job(back, &|j: &Job| claimable(j)).map(|j| {
                let own = j.node.as_deref().unwrap_or("a");
                let name = index.map_or(own, node);
                let run = run_of(name, self.nodes[name].run);
                Call::Claim { job: j.id, node: run.name, instance: run.instance, lasts }
            }),
            Op::Renew { job: back, stale, lasts } => {
                job(back, &running).map(|j| Call::Renew { job: j.id, fence: fence(j, stale), lasts })
            }
            Op::Checkpoint { job: back, stale, made, frozen, removed } => job(back, &running).map(|j| {
                let makes = made && j.spec == JobSpec::Launch;
                let created = j.created.clone().or_else(|| makes.then(|| format!("made-{}", j.id)));
                let frozen = frozen && matches!(j.spec, JobSpec::Snapshot { .. });
                let removed = j.removed || (removed && j.spec.removes_container());
                Call::Checkpoint { job: j.id, fence: fence(j, stale), created, frozen, removed }
            }),
            Op::Record { job: back, stale, digest } => {
                job(back, &|j: &Job| running(j) && matches!(j.spec, JobSpec::Snapshot { .. }))
                    .filter(|j| matches!(j.spec, JobSpec::Snapshot { .. }))
                    .map(|j| Call::Record { job: j.id, fence: fence(j, stale), digest })
            }
            Op::Settle { job: back, stale, how } => job(back, &running).map(|j| Call::Settle {
                job: j.id,
                fence: fence(j, stale),
                how,
                spec: j.spec.clone(),
            }),
            Op::Attend { job: back } => job(back, &unfinished).map(|j| Call::Attend { job: j.id }),
            Op::MarkPublished { job: back } => {
                job(back, &unfinished).map(|j| Call::MarkPublished { job: j.id })
            }
            Op::Cancel { job: back } => job(back, &unfinished).map(|j| Call::Cancel { job: j.id }),
            Op::Retry { job: back } => {
                job(back, &|j: &Job| matches!(j.state, JobState::Failed | JobState::Cancelled) && there(j))
                    .map(|j| Call::Retry { job: j.id })
            }
            Op::Register { node: index } => {
                let number = self.nodes.get(node(index)).map_or(0, |n| n.run) + 1;
                Some(Call::Register { run: run_of(node(index), number), gpus: NODES[usize::from(index)].1 })
            }
            Op::StopNode { node } => Some(Call::StopNode { run: run_now(node) }),
            Op::Drain { node, drained } => Some(Call::Drain { node: run_now(node).name, drained }),
            Op::RescueNode { node } => {
                let run = run_now(node);
                Some(Call::RescueNode { node: run.name, instance: run.instance })
            }
            Op::Observe { container: back, running } => container(back, &|c: &Container| c.docker.is_some())
                .and_then(|c| {
                    let (node_uid, docker_id) = (c.node.clone()?, c.docker.clone()?);
                    Some(Call::Observe { id: ContainerId(c.id), node_uid, docker_id, running })
                }),
            Op::Forget { container: back } => container(back, &|c: &Container| {
                matches!(c.state, ContainerState::Lost | ContainerState::Error)
            })
            .map(|c| Call::Forget { id: ContainerId(c.id) }),
            Op::Protect { container: back, protected } => container(back, &|_: &Container| true)
                .map(|c| Call::Protect { id: ContainerId(c.id), protected }),
        };
        call.unwrap_or(Call::Nothing)
    }

    fn request(id: JobId, user: u8, spec: JobSpec, target: Target, key: Option<u8>) -> Submission {
        let body = format!("{spec:?} {target:?}");
        let asked = Submission {
            user: crate::world::user(["ann", "bob"][usize::from(user)]),
            ..request(spec, target)
        };
        match key {
            Some(key) => Submission { id, ..keyed(asked, &format!("key{key}"), &body) },
            None => Submission { id, ..asked },
        }
    }
}

/// The one that many before the newest of those that fit. Some steps do not care.
fn pick<'a, T>(back: usize, all: impl Iterator<Item = &'a T>, fits: &dyn Fn(&T) -> bool) -> Option<&'a T> {
    const NO_CARE: usize = 50;
    let mut all: Vec<&T> = all.filter(|one| back >= NO_CARE || fits(one)).collect();
    all.reverse();
    all.get(back % all.len().max(1)).copied()
}
