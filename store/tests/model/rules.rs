//! The store's rules once more, in the plainest form: everything in memory, one step at a time.

use super::calls::Call;
use crate::world::request;
use mothball_domain::container::ContainerState;
use mothball_domain::id::{Fence, JobId};
use mothball_domain::job::{JobSpec, Then};
use mothball_domain::state::JobState;
use mothball_store::{Restore, RestoreTo, Submission, Target};
use std::collections::BTreeMap;

/// When a job is due, as far as a test can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    /// In seconds: not to be relied on.
    Soon,
    Later,
    Never,
}

#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "a model is as plain as it can be")]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) spec: JobSpec,
    pub(super) user: String,
    pub(super) container: Option<u64>,
    pub(super) node: Option<String>,
    pub(super) state: JobState,
    pub(super) attempt: u32,
    pub(super) fence: u64,
    /// Node, instance, and whether it lasts.
    pub(super) lease: Option<(String, String, bool)>,
    pub(super) cancel: bool,
    pub(super) waits: bool,
    /// Whether the next attempt has a time, and whether that is far away.
    pub(super) next: Option<bool>,
    pub(super) published: u32,
    pub(super) offered: bool,
    pub(super) recorded: bool,
    pub(super) created: Option<String>,
    pub(super) frozen: bool,
    pub(super) removed: bool,
    pub(super) due: Due,
}

#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) wants: u32,
    pub(super) state: ContainerState,
    pub(super) node: Option<String>,
    pub(super) docker: Option<String>,
    pub(super) gpus: Vec<u32>,
    pub(super) job: Option<JobId>,
    pub(super) parked: Option<String>,
    pub(super) bills: u32,
    pub(super) open: bool,
    pub(super) protected: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) gpus: u32,
    pub(super) run: u32,
    pub(super) alive: bool,
    pub(super) drained: bool,
    pub(super) held: BTreeMap<u64, Vec<u32>>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) containers: BTreeMap<u64, Container>,
    pub(super) nodes: BTreeMap<String, Node>,
    /// By `name:tag`: the digest, and those it had before.
    pub(super) images: BTreeMap<String, (u8, Vec<u8>)>,
    /// The same of images that were deleted and can be restored.
    pub(super) deleted: BTreeMap<String, (u8, Vec<u8>)>,
    pub(super) keys: BTreeMap<(String, String), (JobId, String)>,
}

impl Model {
    /// Does a step, and says what the store must answer.
    pub(super) fn apply(&mut self, call: &Call) -> String {
        match call {
            Call::Nothing => String::new(),
            Call::Submit(submission) => self.submit(submission),
            Call::Restore(restore) => self.restore(restore),
            Call::Claim { job, node, instance, lasts } => self.claim(*job, node.as_str(), instance, *lasts),
            Call::Renew { job, fence, lasts } => self.held(*job, *fence, |job| {
                if let Some(lease) = &mut job.lease {
                    lease.2 = *lasts;
                }
                job.due = if *lasts { Due::Later } else { Due::Now };
            }),
            Call::Checkpoint { job, fence, created, frozen, removed } => self.held(*job, *fence, |job| {
                (job.created, job.frozen, job.removed) = (created.clone(), *frozen, *removed);
                job.recorded = false;
            }),
            Call::Record { job, fence, digest } => self.record(*job, *fence, *digest),
            Call::Settle { job, fence, how, .. } => self.settle(*job, *fence, *how),
            Call::Attend { job } => self.attend(*job),
            Call::MarkPublished { job } => {
                let job = self.job(*job);
                if job.offered {
                    job.published += 1;
                    job.due = Due::Later;
                }
                String::new()
            }
            Call::Cancel { job } => self.cancel(*job),
            Call::Retry { job } => self.retry(*job),
            Call::Register { run, gpus } => {
                let node = self.nodes.entry(run.name.to_string()).or_default();
                (node.gpus, node.alive) = (*gpus, true);
                node.run += 1;
                self.wake();
                String::new()
            }
            Call::StopNode { run } => {
                self.node(run.name.as_str()).alive = false;
                String::new()
            }
            Call::Drain { node, drained } => {
                self.node(node.as_str()).drained = *drained;
                self.wake();
                if *drained {
                    self.clear_of_launches(node.as_str());
                }
                String::new()
            }
            Call::RescueNode { node, instance } => self.rescue_node(node.as_str(), instance),
            Call::Observe { id, running, .. } => {
                self.observe(id.0, *running);
                String::new()
            }
            Call::Forget { id } => self.forget(id.0).to_string(),
            Call::Protect { id, protected } => {
                let container = self.container(id.0);
                let there = container.state != ContainerState::Deleted;
                container.protected = if there { *protected } else { container.protected };
                there.to_string()
            }
        }
    }

    pub(super) fn job(&mut self, id: JobId) -> &mut Job {
        self.jobs.get_mut(&id).expect("a job of the model")
    }

    pub(super) fn container(&mut self, id: u64) -> &mut Container {
        self.containers.get_mut(&id).expect("a container of the model")
    }

    pub(super) fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).expect("a node of the model")
    }

    pub(super) fn unfinished(&self, id: Option<JobId>) -> Option<&Job> {
        id.and_then(|id| self.jobs.get(&id)).filter(|job| !job.state.is_final())
    }

    /// Launches that wait for room are looked at now.
    pub(super) fn wake(&mut self) {
        for job in self.jobs.values_mut() {
            let waits = matches!(job.state, JobState::Queued | JobState::Retrying);
            if waits && job.spec == JobSpec::Launch && job.node.is_none() {
                job.due = Due::Now;
            }
        }
    }

    fn held(&mut self, id: JobId, fence: Fence, write: impl FnOnce(&mut Job)) -> String {
        let job = self.job(id);
        if job.state != JobState::Running || job.fence != fence.0 {
            return "lost".into();
        }
        write(job);
        format!("held, cancel {}", job.cancel)
    }

    fn record(&mut self, id: JobId, fence: Fence, digest: u8) -> String {
        let answer = self.held(id, fence, |job| job.recorded = true);
        let image = self.job(id).spec.image().map(ToString::to_string);
        if let Some(image) = image.filter(|_| answer != "lost") {
            // Who saves under the tag of a deleted image overwrites that.
            let before = self.images.get(&image).cloned().or_else(|| self.deleted.remove(&image));
            let (before, mut previous) = before.unwrap_or((digest, Vec::new()));
            if before != digest {
                previous.retain(|p| *p != before);
                previous.insert(0, before);
            }
            previous.retain(|p| *p != digest);
            previous.truncate(10);
            self.images.insert(image, (digest, previous));
        }
        answer
    }

    fn restore(&mut self, r: &Restore) -> String {
        let name = r.image.to_string();
        let (live, deleted) = (self.images.get(&name).cloned(), self.deleted.get(&name).cloned());
        let is_live = live.is_some();
        let Some((mut now, mut previous)) = live.or(deleted) else { return "nothing".into() };
        match (&r.to, previous.first().copied()) {
            (RestoreTo::Deleted, _) if !is_live => {}
            (RestoreTo::Deleted, Some(_)) => return "taken".into(),
            (_, None) => return "nothing".into(),
            (_, Some(before)) => {
                previous[0] = now;
                now = before;
            }
        }
        let digest = crate::world::digest(now);
        let spec = JobSpec::RestoreImage { image: r.image.clone(), digest };
        if let Some(other) = self.holder_of_image(&spec) {
            return format!("busy {}", other.id);
        }
        self.deleted.remove(&name);
        self.images.insert(name, (now, previous));
        let asked = Submission { id: r.job, user: r.user.clone(), ..request(spec, Target::Image) };
        self.accept(&asked, r.user.as_str(), None)
    }

    fn submit(&mut self, s: &Submission) -> String {
        let user = s.user.to_string();
        let key = s.idempotency.as_ref().map(|i| ((user.clone(), i.key.clone()), i.body_sha256.clone()));
        if let Some((key, body)) = &key
            && let Some((job, before)) = self.keys.get(key)
        {
            return if body == before { format!("replayed {job}") } else { format!("conflict {job}") };
        }
        let answer = self.decide(s, &user);
        let remembered = answer.strip_prefix("new ").or(answer.strip_prefix("joined "));
        if let (Some((key, body)), Some(job)) = (key, remembered.and_then(|id| id.parse().ok())) {
            self.keys.insert(key, (job, body));
        }
        answer
    }

    fn decide(&mut self, s: &Submission, user: &str) -> String {
        let join = |other: &Job, container: Option<u64>| {
            let same =
                other.spec == s.spec && other.container == container && other.user == user && !other.cancel;
            format!("{} {}", if same { "joined" } else { "busy" }, other.id)
        };
        let about = match &s.target {
            Target::New(new) => {
                let named =
                    |c: &&Container| c.name == new.name.as_str() && c.state != ContainerState::Deleted;
                if let Some(there) = self.containers.values().find(named) {
                    let answer = self.unfinished(there.job).map(|other| join(other, Some(there.id)));
                    let joins =
                        answer.filter(|a| a.starts_with("joined") && there.wants == new.launch.flavor.gpus);
                    return joins.unwrap_or_else(|| format!("name taken {}", there.id));
                }
                None
            }
            Target::Container(id) | Target::Wake(id, _) => {
                let there = &self.containers[&id.0];
                if let Some(other) = self.unfinished(there.job) {
                    return join(other, Some(id.0));
                }
                if !allowed(&s.spec, there.state) {
                    return "not now".into();
                }
                if there.protected && s.spec.removes_container() {
                    return "protected".into();
                }
                Some(id.0)
            }
            Target::Image => {
                let there = s.spec.image().is_some_and(|image| self.images.contains_key(&image.to_string()));
                if !there {
                    return "no image".into();
                }
                None
            }
        };
        if let Some(other) = self.holder_of_image(&s.spec) {
            return join(other, about);
        }
        self.accept(s, user, about)
    }

    pub(super) fn holder_of_image(&self, spec: &JobSpec) -> Option<&Job> {
        let image = spec.image()?;
        self.jobs.values().find(|job| !job.state.is_final() && job.spec.image() == Some(image))
    }

    fn accept(&mut self, s: &Submission, user: &str, about: Option<u64>) -> String {
        let mut container = about;
        if let Target::New(new) = &s.target {
            let id = self.containers.len() as u64 + 1;
            container = Some(id);
            let made = Container {
                id,
                name: new.name.to_string(),
                wants: new.launch.flavor.gpus,
                state: ContainerState::Initializing,
                node: None,
                docker: None,
                gpus: Vec::new(),
                job: None,
                parked: None,
                bills: 0,
                open: false,
                protected: false,
            };
            self.containers.insert(id, made);
        }
        let there = container.map(|id| &self.containers[&id]);
        let node = there.filter(|c| c.state != ContainerState::Parked).and_then(|c| c.node.clone());
        let job = Job {
            id: s.id,
            spec: s.spec.clone(),
            user: user.to_owned(),
            container,
            node,
            state: JobState::Queued,
            attempt: 0,
            fence: 0,
            lease: None,
            cancel: false,
            waits: false,
            next: None,
            published: 0,
            offered: true,
            recorded: false,
            created: None,
            frozen: false,
            removed: false,
            due: Due::Now,
        };
        self.jobs.insert(s.id, job);
        if let Some(id) = container {
            self.container(id).job = Some(s.id);
        }
        if s.spec == JobSpec::Launch {
            if let Some(id) = about {
                self.container(id).state = ContainerState::Initializing;
                self.unplace(s.id);
            }
            self.place(s.id);
        } else {
            self.wait_for_silent_node(s.id);
        }
        let job = self.job(s.id);
        job.offered = !job.waits;
        job.due = if job.waits { Due::Soon } else { Due::Now };
        format!("new {}", s.id)
    }

    fn claim(&mut self, id: JobId, node: &str, instance: &str, lasts: bool) -> String {
        let job = self.job(id).clone();
        if job.state.is_final() {
            return "over".into();
        }
        if job.lease.as_ref().is_some_and(|lease| lease.2) {
            return "held".into();
        }
        if job.node.as_deref().is_some_and(|wanted| wanted != node) {
            return "elsewhere".into();
        }
        if (job.spec == JobSpec::Launch && job.node.is_none()) || job.next == Some(true) {
            return "not due".into();
        }
        if job.state == JobState::Running {
            self.rescue(id);
        }
        if !self.job(id).state.is_final() && job.cancel && !job.frozen {
            self.end(id, JobState::Cancelled);
        }
        let job = self.job(id);
        if job.state.is_final() {
            return "over".into();
        }
        job.state = JobState::Running;
        (job.attempt, job.fence) = (job.attempt + 1, job.fence + 1);
        (job.published, job.waits, job.next, job.offered) = (0, false, None, false);
        job.lease = Some((node.to_owned(), instance.to_owned(), lasts));
        job.due = if lasts { Due::Later } else { Due::Now };
        let answer = format!("claimed {} {}", job.attempt, job.fence);
        if let (JobSpec::Delete, Some(container)) = (&job.spec, job.container) {
            let container = self.container(container);
            if container.state.exists() {
                container.state = ContainerState::Deleting;
            }
        }
        answer
    }

    fn rescue_node(&mut self, node: &str, instance: &str) -> String {
        let mut due = Vec::new();
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            let job = self.job(id);
            let at = job.lease.as_ref().map(|lease| lease.0.clone()).or(job.node.clone());
            if job.state.is_final() || at.as_deref() != Some(node) || job.next == Some(true) {
                continue;
            }
            if job.state == JobState::Running {
                if job.lease.as_ref().is_some_and(|lease| lease.1 == instance) {
                    continue;
                }
                self.rescue(id);
            }
            let job = self.job(id);
            job.published = 0;
            if !job.state.is_final() {
                job.due = Due::Now;
                due.push(id);
            }
        }
        format!("{due:?}")
    }
}

/// Whether a container in this state can have a job of this kind.
pub(super) fn allowed(spec: &JobSpec, state: ContainerState) -> bool {
    use ContainerState as C;
    match spec {
        JobSpec::Snapshot { .. } => matches!(state, C::Ready | C::Stopped),
        JobSpec::Delete => !matches!(state, C::Initializing | C::Deleted),
        JobSpec::Start => state == C::Stopped,
        JobSpec::Stop => state == C::Ready,
        JobSpec::Launch => state == C::Parked,
        JobSpec::DeleteImage { .. } | JobSpec::RestoreImage { .. } | JobSpec::PurgeImage { .. } => false,
    }
}

/// The image that a job parks its container under.
pub(super) fn parks(spec: &JobSpec) -> Option<String> {
    match spec {
        JobSpec::Snapshot { image, then: Then::Park, .. } => Some(image.to_string()),
        _ => None,
    }
}
