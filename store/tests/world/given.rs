//! Names, requests and short histories that many tests begin with.

use super::World;
use anyhow::{Context, Result, bail};
use mothball_domain::container::{Container, Launch, Source};
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::flavor::Flavor;
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::image::{Digest, ImageRef};
use mothball_domain::job::{Checkpoint, Frozen, Job, JobSpec, PauseMode, Then};
use mothball_domain::label::Labels;
use mothball_domain::name::{ContainerName, FlavorName, ImageName, NodeName, ProjectName, UserName};
use mothball_domain::node::{Gpu, NodeReport};
use mothball_domain::size::ByteSize;
use mothball_store::{
    Attend, Attention, Checkpointed, Claim, Effect, Idempotency, ImageDraft, NewContainer, NodeRun, Outcome,
    Recorded, Registered, Settled, Submission, Submitted, Target,
};
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// Longer than any test.
pub(crate) const LONG: Duration = Duration::from_hours(1);
/// The longest that something may take that shall happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Nothing is given up as gone.
pub(crate) const PATIENT: Attention = Attention { alive_within: LONG, gone_after: LONG };

pub(crate) fn user(name: &str) -> UserName {
    UserName::new(name).expect("a user name")
}

pub(crate) fn project(name: &str) -> ProjectName {
    ProjectName::new(name).expect("a project name")
}

pub(crate) fn node_name(name: &str) -> NodeName {
    NodeName::new(name).expect("a node name")
}

pub(crate) fn container_name(name: &str) -> ContainerName {
    ContainerName::new(name).expect("a container name")
}

pub(crate) fn image_name(name: &str) -> ImageName {
    ImageName::new(name).expect("an image name")
}

pub(crate) fn image(text: &str) -> ImageRef {
    text.parse().expect("an image reference")
}

/// Labels written as `key=value`.
pub(crate) fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    Labels::new(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()).expect("labels")
}

pub(crate) fn digest(number: u8) -> Digest {
    Digest::from_sha256([number; 32])
}

pub(crate) fn fresh_id() -> JobId {
    JobId(Uuid::now_v7())
}

pub(crate) fn launch_with(gpus: u32) -> Launch {
    let flavor = Flavor {
        name: FlavorName::new(format!("gpu{gpus}")).expect("a flavor name"),
        gpus,
        cpus: 1,
        memory: ByteSize(1 << 30),
        shm: None,
        price_per_hour: Decimal::from(36),
    };
    Launch {
        source: Source::Catalog { name: "base".into(), reference: "registry/base:1".into() },
        flavor,
        env: BTreeMap::from([("TOKEN".to_owned(), "secret".to_owned())]),
        mounts: Vec::new(),
        ports: vec![22],
    }
}

pub(crate) fn new_container(name: &str, gpus: u32) -> Target {
    Target::New(Box::new(NewContainer {
        name: container_name(name),
        launch: launch_with(gpus),
        image_name: image_name("base"),
        description: String::new(),
        labels: Labels::default(),
    }))
}

pub(crate) fn snapshot(to: &str, then: Then) -> JobSpec {
    JobSpec::Snapshot {
        image: image(to),
        then,
        pause: PauseMode::Auto,
        discard_volumes: false,
        excludes: Vec::new(),
    }
}

/// A request of ann's for project p.
pub(crate) fn request(spec: JobSpec, target: Target) -> Submission {
    Submission {
        id: fresh_id(),
        spec,
        user: user("ann"),
        project: project("p"),
        target,
        schedule: None,
        idempotency: None,
        max_attempts: 3,
        alive_within: LONG,
    }
}

/// A request that names itself.
pub(crate) fn keyed(mut request: Submission, key: &str, body: &str) -> Submission {
    request.id = fresh_id();
    request.idempotency = Some(Idempotency { key: key.to_owned(), body_sha256: body.to_owned() });
    request
}

/// The same request, made by another user.
pub(crate) fn by(name: &str, request: &Submission) -> Submission {
    Submission { id: fresh_id(), user: user(name), ..request.clone() }
}

pub(crate) fn again(request: &Submission) -> Submission {
    Submission { id: fresh_id(), ..request.clone() }
}

pub(crate) fn transient() -> Failure {
    Failure::transient(FailureClass::Network, "the registry cannot be reached")
}

pub(crate) fn permanent() -> Failure {
    Failure::permanent(FailureClass::Auth, "the registry refused the password")
}

pub(crate) fn failed(failure: Failure, retry_after: Duration) -> Outcome {
    Outcome::Failed { failure, retry_after }
}

pub(crate) fn running(docker_id: &str) -> Outcome {
    Outcome::Succeeded(Effect::Running { docker_id: docker_id.to_owned(), ports: Vec::new() })
}

pub(crate) fn at_checkpoint(checkpoint: Checkpoint) -> Checkpointed {
    Checkpointed { checkpoint, ..Checkpointed::default() }
}

pub(crate) fn frozen() -> Checkpointed {
    let frozen = Frozen { docker_id: "d".into(), since: jiff::Timestamp::UNIX_EPOCH };
    at_checkpoint(Checkpoint { frozen: Some(frozen), ..Checkpoint::default() })
}

pub(crate) fn draft(number: u8) -> ImageDraft {
    ImageDraft {
        digest: digest(number),
        size_bytes: 1000 + u64::from(number),
        storage_price: Decimal::from(2),
        layers: 3,
        reference: format!("registry/p/base@{}", digest(number)),
        base: Some("base".into()),
        undo: LONG,
    }
}

pub(crate) fn report(gpus: u32) -> NodeReport {
    let gpus = (0..gpus).map(|index| Gpu { index, uuid: format!("GPU-{index}"), name: "V100".into() });
    NodeReport { gpus: gpus.collect(), ..NodeReport::default() }
}

pub(crate) fn run(name: &str, uid: &str, instance: &str) -> NodeRun {
    NodeRun { name: node_name(name), uid: uid.to_owned(), instance: instance.to_owned() }
}

impl World {
    /// Registers the first run of a node, whose uid is its name.
    pub(crate) async fn node(&self, name: &str, gpus: u32) -> Result<NodeRun> {
        let run = run(name, name, "first");
        match self.store.register_node(&run, &report(gpus)).await? {
            Registered::Yes(_) => Ok(run),
            Registered::Refused(uid) => bail!("{name} is refused: {uid} has the name"),
        }
    }

    pub(crate) async fn new_job(&self, request: &Submission) -> Result<Job> {
        match self.store.submit(request).await? {
            Submitted::New(job) => Ok(*job),
            other => bail!("not a new job: {other:?}"),
        }
    }

    pub(crate) async fn job(&self, id: JobId) -> Result<Job> {
        self.store.job(id).await?.context("the job is gone")
    }

    pub(crate) async fn container(&self, id: ContainerId) -> Result<Container> {
        self.store.container(id).await?.context("the container is gone")
    }

    /// Claims for the first run of the job's node, with a lease that outlives the test.
    pub(crate) async fn claimed(&self, job: &Job) -> Result<Job> {
        self.claimed_for(job, LONG).await
    }

    pub(crate) async fn claimed_for(&self, job: &Job, lease: Duration) -> Result<Job> {
        let node = self.job(job.id).await?.node.unwrap_or_else(|| node_name("n"));
        match self.store.claim(job.id, &node, "first", lease).await? {
            Claim::Claimed(job) => Ok(*job),
            other => bail!("not claimed: {other:?}"),
        }
    }

    pub(crate) async fn settled(&self, held: &Job, outcome: Outcome) -> Result<Job> {
        match self.store.settle(held.id, held.fence, &outcome).await? {
            Settled::Done(job) => Ok(*job),
            Settled::Lost => bail!("the holder has lost the job"),
        }
    }

    /// Claims and ends a job.
    pub(crate) async fn ended(&self, job: &Job, outcome: Outcome) -> Result<Job> {
        let held = self.claimed(job).await?;
        self.settled(&held, outcome).await
    }

    pub(crate) async fn attend(&self, id: JobId) -> Result<Attend> {
        Ok(self.store.attend(id, PATIENT).await?)
    }

    /// Whether the scheduler would look at the job now.
    pub(crate) async fn is_due(&self, id: JobId) -> Result<bool> {
        Ok(self.store.due(10_000).await?.contains(&id))
    }

    /// A container of ann's in project p that runs on some node, with Docker id `d-NAME`.
    pub(crate) async fn launched(&self, name: &str, gpus: u32) -> Result<Container> {
        let job = self.new_job(&request(JobSpec::Launch, new_container(name, gpus))).await?;
        let job = self.ended(&job, running(&format!("d-{name}"))).await?;
        self.container(job.container.context("a launch has a container")?).await
    }

    /// An image of project p, saved from a container by a job that succeeded.
    pub(crate) async fn saved(&self, from: &Container, to: &str, number: u8) -> Result<Job> {
        self.saved_for(from, to, number, LONG).await
    }

    /// The same, where what it overwrites can be restored for so long.
    pub(crate) async fn saved_for(
        &self,
        from: &Container,
        to: &str,
        number: u8,
        undo: Duration,
    ) -> Result<Job> {
        let job = self.new_job(&request(snapshot(to, Then::Keep), Target::Container(from.id))).await?;
        let held = self.claimed(&job).await?;
        let draft = ImageDraft { undo, ..draft(number) };
        match self.store.record_image(held.id, held.fence, &draft).await? {
            Recorded::Held { .. } => self.settled(&held, Outcome::Succeeded(Effect::None)).await,
            other => bail!("not recorded: {other:?}"),
        }
    }

    /// Deletes a container by a job.
    pub(crate) async fn deleted(&self, container: &Container) -> Result<Job> {
        let job = self.new_job(&request(JobSpec::Delete, Target::Container(container.id))).await?;
        self.ended(&job, Outcome::Succeeded(Effect::Removed)).await
    }

    /// Parks a container under this image.
    pub(crate) async fn parked(&self, container: &Container, to: &str) -> Result<Job> {
        let job = self.new_job(&request(snapshot(to, Then::Park), Target::Container(container.id))).await?;
        let held = self.claimed(&job).await?;
        self.store.record_image(held.id, held.fence, &draft(1)).await?;
        self.settled(&held, Outcome::Succeeded(Effect::Removed)).await
    }
}
