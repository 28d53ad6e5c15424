//! Submitting a job: the record, its place in every list, its due time, its uniqueness, and for a launch the
//! container and its place on a node, all in one step.

use crate::db::tx::Tx;
use crate::ops::refusal::{allowed, bound_to, quota};
use crate::ops::{after, placement, records, transact};
use crate::{Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::billing::Usage;
use mothball_domain::container::{Container, ContainerState, Launch};
use mothball_domain::flavor::Flavor;
use mothball_domain::id::{ContainerId, Fence, JobId, ScheduleId};
use mothball_domain::image::Image;
use mothball_domain::job::{Checkpoint, Job, JobSpec};
use mothball_domain::label::Labels;
use mothball_domain::name::{ContainerName, ImageName, ProjectName, UserName};
use mothball_domain::state::JobState;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A caller's own name for its request, so that a repetition gets the same job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key the caller chose, at most 255 characters.
    pub key: String,
    /// SHA-256 of call and body: the same key with another body is refused.
    pub body_sha256: String,
}

/// What a job is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A container to be made.
    New(Box<NewContainer>),
    /// A container that there is.
    Container(ContainerId),
    /// A parked container that is to be launched again as this size, at this price.
    Wake(ContainerId, Box<Flavor>),
    /// An image alone.
    Image,
}

/// A container that a launch makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewContainer {
    /// Its name.
    pub name: ContainerName,
    /// How it is launched.
    pub launch: Launch,
    /// The name that images saved from it get.
    pub image_name: ImageName,
    /// Free text.
    pub description: String,
    /// Labels.
    pub labels: Labels,
}

/// A job to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// A fresh UUIDv7.
    pub id: JobId,
    /// What is to be done.
    pub spec: JobSpec,
    /// Who asks.
    pub user: UserName,
    /// For which project.
    pub project: ProjectName,
    /// What it is about.
    pub target: Target,
    /// The schedule that asks for it in the user's name.
    pub schedule: Option<ScheduleId>,
    /// The caller's own name for the request.
    pub idempotency: Option<Idempotency>,
    /// Attempts it gets.
    pub max_attempts: u32,
    /// How lately a node must have reported to be given a launch.
    pub alive_within: Duration,
}

/// What came of a submission.
#[derive(Debug, Clone, PartialEq)]
pub enum Submitted {
    /// It is recorded.
    New(Box<Job>),
    /// The same user asked for the same before, and it is not finished: this is that job.
    Joined(Box<Job>),
    /// The same idempotency key and body came before: this is its job.
    Replayed(Box<Job>),
    /// The idempotency key came before with another body.
    IdempotencyConflict(JobId),
    /// Another unfinished job has the container or the image.
    Busy(Box<Job>),
    /// Another container of the project has the name.
    NameTaken(ContainerId),
    /// There is no such container in the project.
    NoContainer,
    /// There is no such image in the project.
    NoImage,
    /// The container's state does not allow it; a sentence.
    NotNow(String),
    /// The container is protected from deletion.
    Protected,
    /// The project's quota does not allow it; a sentence.
    Quota(String),
}

/// How long an idempotency key is remembered.
pub(crate) const IDEMPOTENCY_TTL: Duration = Duration::from_hours(24);

#[derive(Serialize, Deserialize)]
struct Remembered {
    job: JobId,
    body_sha256: String,
}

impl Store {
    /// Records a job. Idempotent by its id and by its idempotency key. After an error it may be recorded or
    /// not; the same submission again finds out.
    pub async fn submit(&self, submission: &Submission) -> Result<Submitted, StoreError> {
        let submitted = transact!(self, |tx| submit(tx, submission).await);
        if let Ok(Submitted::New(job)) = &submitted {
            self.count_submitted(job);
        }
        submitted
    }

    /// What an idempotency key says of an earlier request, whatever has become since of what that was about; none
    /// when it is new. Reads only.
    pub async fn replay(
        &self,
        user: &UserName,
        idempotency: &Idempotency,
    ) -> Result<Option<Submitted>, StoreError> {
        remembered(&mut Tx::new(&self.db), user, Some(idempotency)).await
    }
}

pub(crate) async fn submit(tx: &mut Tx<'_>, s: &Submission) -> Result<Submitted, StoreError> {
    tx.load(&needed(s)).await?;
    if let Some(job) = records::job(tx, s.id).await? {
        return Ok(Submitted::Replayed(Box::new(job)));
    }
    if let Some(earlier) = remembered(tx, &s.user, s.idempotency.as_ref()).await? {
        return Ok(earlier);
    }
    let outcome = decide(tx, s).await?;
    match &outcome {
        Submitted::New(job) => remember(tx, s, job.id)?,
        Submitted::Joined(job) => {
            tx.discard();
            // The same key must give this job even when it is over by then.
            remember(tx, s, job.id)?;
        }
        _ => tx.discard(),
    }
    Ok(outcome)
}

/// The records that the decision is about, read in one step.
fn needed(s: &Submission) -> Vec<String> {
    let mut needed = vec![keys::job(s.id)];
    needed.extend(s.idempotency.as_ref().map(|i| keys::idempotency(&s.user, &i.key)));
    match &s.target {
        Target::New(new) => {
            needed.push(keys::container_name(&s.project, &new.name));
            needed.push(keys::CONTAINER_COUNTER.to_owned());
        }
        Target::Container(id) | Target::Wake(id, _) => needed.push(keys::container(*id)),
        Target::Image => needed.extend(s.spec.image().map(|image| keys::image(&s.project, image))),
    }
    needed.extend(s.spec.image().map(|image| keys::image_job(&s.project, image)));
    if matches!(s.spec, JobSpec::Snapshot { .. }) {
        needed.push(keys::project(&s.project));
    }
    needed
}

/// What becomes of a request that did not come before. What it begins to write counts only if it is accepted.
async fn decide(tx: &mut Tx<'_>, s: &Submission) -> Result<Submitted, StoreError> {
    let now = tx.now().await?;
    let mut job = new_job(s, now);
    let refused = match &s.target {
        Target::New(new) => launch(tx, s, new, &mut job).await?,
        Target::Container(id) => existing(tx, s, *id, None, &mut job).await?,
        Target::Wake(id, flavor) => existing(tx, s, *id, Some(flavor), &mut job).await?,
        Target::Image => image(tx, s).await?,
    };
    if let Some(refused) = refused {
        return Ok(refused);
    }
    if let Some(image) = s.spec.image() {
        let key = keys::image_job(&s.project, image);
        if let Some(other) = tx.get::<JobId>(&key).await?
            && let Some(other) = unfinished(tx, other).await?
        {
            return Ok(join_or_busy(s, other));
        }
        tx.put(&key, &job.id)?;
    }
    job.offered = job.waiting_for.is_none();
    let due = if job.offered { now } else { after(now, super::due::LOOK_AGAIN) };
    records::put_job(tx, None, &job, due)?;
    Ok(Submitted::New(Box::new(job)))
}

fn remember(tx: &mut Tx<'_>, s: &Submission, job: JobId) -> Result<(), StoreError> {
    let Some(idempotency) = &s.idempotency else { return Ok(()) };
    let record = Remembered { job, body_sha256: idempotency.body_sha256.clone() };
    tx.put_for(&keys::idempotency(&s.user, &idempotency.key), &record, Some(IDEMPOTENCY_TTL))
}

/// What the idempotency key says, where it came before.
async fn remembered(
    tx: &mut Tx<'_>,
    user: &UserName,
    idempotency: Option<&Idempotency>,
) -> Result<Option<Submitted>, StoreError> {
    let Some(idempotency) = idempotency else { return Ok(None) };
    let key = keys::idempotency(user, &idempotency.key);
    let Some(remembered) = tx.get::<Remembered>(&key).await? else { return Ok(None) };
    if remembered.body_sha256 != idempotency.body_sha256 {
        return Ok(Some(Submitted::IdempotencyConflict(remembered.job)));
    }
    // A job that history no longer has may be submitted anew.
    Ok(records::job(tx, remembered.job).await?.map(|job| Submitted::Replayed(Box::new(job))))
}

fn new_job(s: &Submission, now: Timestamp) -> Job {
    let mut job = Job {
        id: s.id,
        spec: s.spec.clone(),
        user: s.user.clone(),
        project: s.project.clone(),
        node: None,
        container: None,
        image: s.spec.about_image().map(ToString::to_string),
        flavor: None,
        schedule: s.schedule,
        state: JobState::Queued,
        step: None,
        checkpoint: Checkpoint::default(),
        attempt: 0,
        max_attempts: s.max_attempts,
        fence: Fence(0),
        lease: None,
        cancel_requested: false,
        waiting_for: None,
        published: 0,
        offered: true,
        progress: None,
        error: None,
        notes: Vec::new(),
        events: Vec::new(),
        created_at: now,
        started_at: None,
        finished_at: None,
        next_attempt_at: None,
    };
    let by_schedule = s.schedule.map_or_else(String::new, |id| format!(", by schedule {id}"));
    job.note_event(now, "submitted", format!("by {}{by_schedule}", s.user));
    job
}

async fn launch(
    tx: &mut Tx<'_>,
    s: &Submission,
    new: &NewContainer,
    job: &mut Job,
) -> Result<Option<Submitted>, StoreError> {
    let now = tx.now().await?;
    if let Some(id) = tx.get::<ContainerId>(&keys::container_name(&s.project, &new.name)).await? {
        // The very same launch, asked for again while it is under way, is joined.
        if let Some(container) = records::container(tx, id).await?
            && container.launch == new.launch
            && let Some(other) = container.job
            && let Some(other) = unfinished(tx, other).await?
            && other.is_same_request(&s.spec, Some(id), &s.user)
        {
            return Ok(Some(Submitted::Joined(Box::new(other))));
        }
        return Ok(Some(Submitted::NameTaken(id)));
    }
    let number: u64 = tx.get(keys::CONTAINER_COUNTER).await?.unwrap_or(0) + 1;
    tx.put(keys::CONTAINER_COUNTER, &number)?;
    let mut container = Container {
        id: ContainerId(number),
        name: new.name.clone(),
        project: s.project.clone(),
        user: s.user.clone(),
        state: ContainerState::Initializing,
        launch: new.launch.clone(),
        image_name: new.image_name.clone(),
        node: None,
        node_uid: None,
        docker_id: None,
        gpus: Vec::new(),
        ports: Vec::new(),
        writable_bytes: None,
        protected: false,
        description: new.description.clone(),
        labels: new.labels.clone(),
        keep_until: None,
        job: Some(job.id),
        parked_image: None,
        parked_flavor: None,
        created_at: now,
        metered: Vec::new(),
        metered_before: 0,
        used_before: Usage::default(),
        reason: None,
        adopted: false,
    };
    job.container = Some(container.id);
    job.image = Some(new.launch.source.display_name());
    placement::try_place(tx, job, &mut container, s.alive_within).await?;
    records::put_container(tx, None, &container)?;
    Ok(None)
}

async fn existing(
    tx: &mut Tx<'_>,
    s: &Submission,
    id: ContainerId,
    flavor: Option<&Flavor>,
    job: &mut Job,
) -> Result<Option<Submitted>, StoreError> {
    let found = records::container(tx, id).await?.filter(|c| c.project == s.project);
    let Some(mut container) = found else { return Ok(Some(Submitted::NoContainer)) };
    if let Some(other) = container.job
        && let Some(other) = unfinished(tx, other).await?
    {
        // While a container is woken its record shows the size it is woken as.
        let same_size = flavor.is_none_or(|flavor| container.launch.flavor == *flavor);
        let joined = same_size && other.is_same_request(&s.spec, Some(id), &s.user);
        return Ok(Some(if joined {
            Submitted::Joined(Box::new(other))
        } else {
            Submitted::Busy(Box::new(other))
        }));
    }
    if let Some(refused) = refusal(&s.spec, &container) {
        return Ok(Some(refused));
    }
    if let Some(sentence) = quota(tx, &s.project, &s.spec).await? {
        return Ok(Some(Submitted::Quota(sentence)));
    }
    let before = container.clone();
    container.job = Some(job.id);
    job.container = Some(id);
    job.node = bound_to(&container);
    if s.spec == JobSpec::Launch {
        let wakes_from = container.parked_image.as_ref().map(ToString::to_string);
        job.image = Some(wakes_from.unwrap_or_else(|| container.launch.source.display_name()));
        container.state = ContainerState::Initializing;
        container.reason = None;
        if let Some(flavor) = flavor.filter(|flavor| container.launch.flavor != **flavor) {
            job.flavor = Some(flavor.clone());
            wake_as(&mut container, flavor);
        }
        placement::unplace(tx, job, &mut container).await?;
        placement::try_place(tx, job, &mut container, s.alive_within).await?;
    } else {
        let now = tx.now().await?;
        super::due::note_silent_node(tx, job, now, s.alive_within).await?;
    }
    job.image.get_or_insert_with(|| container.launch.source.display_name());
    records::put_container(tx, Some(&before), &container)?;
    Ok(None)
}

/// A container that is woken gets the size it is woken as; what it was parked with is kept until it runs.
pub(crate) fn wake_as(container: &mut Container, flavor: &Flavor) {
    // What was metered at the size it had stays so.
    container.fix_rates();
    container.parked_flavor = Some(std::mem::replace(&mut container.launch.flavor, flavor.clone()));
}

async fn image(tx: &mut Tx<'_>, s: &Submission) -> Result<Option<Submitted>, StoreError> {
    let Some(image) = s.spec.image() else { return Ok(None) };
    let found: Option<Image> = tx.get(&keys::image(&s.project, image)).await?;
    Ok(found.is_none().then_some(Submitted::NoImage))
}

/// Why a container's state does not allow a job of this kind.
fn refusal(spec: &JobSpec, container: &Container) -> Option<Submitted> {
    if !allowed(spec, container.state) {
        return Some(Submitted::NotNow(format!(
            "container {} is {}: {} is not possible",
            container.name,
            container.state,
            spec.kind()
        )));
    }
    (container.protected && spec.removes_container()).then_some(Submitted::Protected)
}

pub(crate) async fn unfinished(tx: &mut Tx<'_>, id: JobId) -> Result<Option<Job>, StoreError> {
    Ok(records::job(tx, id).await?.filter(|job| !job.state.is_final()))
}

fn join_or_busy(s: &Submission, other: Job) -> Submitted {
    let container = match &s.target {
        Target::Container(id) | Target::Wake(id, _) => Some(*id),
        Target::New(_) | Target::Image => None,
    };
    if other.is_same_request(&s.spec, container, &s.user) {
        Submitted::Joined(Box::new(other))
    } else {
        Submitted::Busy(Box::new(other))
    }
}
