//! The world outside of the store: nodes with their Docker, a registry, and the truth about every container, which the store
//! is compared with.

use crate::agenda::{Agenda, Event};
use crate::ledger::Ledger;
use crate::plans::Plans;
use crate::tally::Tally;
use crate::users::{Project, User};
use crate::workers::Attempt;
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::flavor::Flavor;
use mothball_domain::id::{ContainerId, Fence, JobId, ScheduleId};
use mothball_domain::image::{Digest, ImageRef};
use mothball_domain::job::Job;
use mothball_domain::name::{FlavorName, ImageName, NodeName, ProjectName};
use mothball_domain::node::{Gpu, NodeReport};
use mothball_domain::size::ByteSize;
use mothball_domain::usage::{IdleClock, IdleRule};
use mothball_queue::{Queue, Subscription};
use mothball_scheduler::Parts;
use mothball_store::{HeldClock, NodeRun, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};

/// A minute, an hour and a day in milliseconds.
pub(crate) const MINUTE: i64 = 60_000;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// A container as Docker has it. What is in it is a number: whenever something is written into it, it gets another one, which
/// nothing else ever has.
#[derive(Debug)]
pub(crate) struct DockerBox {
    pub(crate) of: ContainerId,
    pub(crate) content: u64,
    pub(crate) running: bool,
    pub(crate) paused: bool,
    /// How often somebody let it run.
    pub(crate) ran: u64,
}

/// A node, its Docker, and what its workers keep there.
pub(crate) struct Node {
    pub(crate) run: NodeRun,
    pub(crate) gpus: u32,
    pub(crate) drained: bool,
    /// The worker's inbox; none while no worker runs.
    pub(crate) inbox: Option<Subscription>,
    pub(crate) boxes: BTreeMap<String, DockerBox>,
    /// Docker ids that were frozen by somebody who may be dead.
    pub(crate) journal: BTreeSet<String>,
    /// Containers that some process of this node acts upon.
    pub(crate) locks: BTreeMap<ContainerId, u64>,
    /// For how long each has been idle by which rule, as this worker knows, and when it looked last.
    pub(crate) idle: BTreeMap<ContainerId, (i64, IdleClock, IdleRule)>,
}

impl Node {
    pub(crate) fn new(run: NodeRun, gpus: u32) -> Self {
        Self {
            run,
            gpus,
            drained: false,
            inbox: None,
            boxes: BTreeMap::new(),
            journal: BTreeSet::new(),
            locks: BTreeMap::new(),
            idle: BTreeMap::new(),
        }
    }
}

/// A manifest in the registry.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) of: ContainerId,
    pub(crate) content: u64,
    /// Whether the registry has all of its blobs.
    pub(crate) whole: bool,
    pub(crate) bytes: u64,
}

/// What is in the registry.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) manifests: BTreeMap<Digest, Manifest>,
    pub(crate) tags: BTreeMap<(ProjectName, ImageRef), Digest>,
}

/// Where a container is, by what the world has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A launch is under way.
    Launching,
    /// It was launched.
    There,
    /// It was saved and removed, and can be woken with this in it.
    Parked { digest: Digest, content: u64 },
    /// Its launch failed.
    Failed,
    /// Its node does not have it.
    Lost,
    /// It was deleted.
    Gone,
}

/// The truth about a container.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) user: usize,
    pub(crate) place: Place,
    /// What was parked and is being woken.
    pub(crate) waking: Option<(Digest, u64)>,
    pub(crate) flavor: usize,
    /// Since when its owner has it protected.
    pub(crate) protected_since: Option<i64>,
    /// When its owner asked to keep it, and until when.
    pub(crate) kept: Option<(i64, i64)>,
    /// Until when its user worked in it last.
    pub(crate) last_busy: i64,
    /// The same, as the last look at it found it.
    pub(crate) seen_busy: i64,
    /// Where it is.
    pub(crate) docker: Option<(usize, String)>,
    /// The newest job about it.
    pub(crate) job: Option<JobId>,
    pub(crate) image_name: ImageName,
}

/// Who asked for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    User(usize),
    Schedule(ScheduleId),
    Policy,
}

/// What the world knows of a job.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) origin: Origin,
    pub(crate) fence: Fence,
    /// The size and price of what it launches.
    pub(crate) size: Option<(usize, i64)>,
    /// The image that its newest holder recorded.
    pub(crate) recorded: Option<Digest>,
    /// What was in the container that it removed.
    pub(crate) removed: Option<u64>,
    /// When the store was told first that the container is gone.
    pub(crate) told: Option<i64>,
    /// When it ended.
    pub(crate) over: Option<i64>,
}

/// All of it.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: HeldClock,
    pub(crate) queue: Queue,
    pub(crate) schedulers: [Parts; 2],
    pub(crate) rng: StdRng,
    pub(crate) agenda: Agenda,
    pub(crate) nodes: Vec<Node>,
    pub(crate) registry: Registry,
    pub(crate) truths: BTreeMap<ContainerId, Truth>,
    pub(crate) jobs: BTreeMap<JobId, Known>,
    /// Jobs of which the world does not know that they are over.
    pub(crate) open: BTreeSet<JobId>,
    pub(crate) attempts: BTreeMap<u64, Attempt>,
    pub(crate) ledger: Ledger,
    pub(crate) users: Vec<User>,
    pub(crate) projects: Vec<Project>,
    pub(crate) plans: Plans,
    /// What each flavor has cost since when, in ten-thousandths an hour.
    pub(crate) prices: Vec<Vec<(i64, i64)>>,
    /// Until when no scheduler runs.
    pub(crate) dark_until: i64,
    /// How long until schedulers look again, if nothing happens before.
    pub(crate) pass_wait: i64,
    /// Whether schedules may have started jobs that the world does not know of.
    pub(crate) expects_jobs: bool,
    /// Parks by policy: container and time of the warning, the parks that it led to.
    pub(crate) warned: BTreeMap<(ContainerId, i64), Vec<JobId>>,
    /// Whether everything works as it should.
    pub(crate) calm: bool,
    pub(crate) tally: Tally,
    next: u64,
}

/// GPUs of each flavor, and its price when the year begins.
pub(crate) const FLAVORS: [(&str, u32, i64); 4] =
    [("cpu", 0, 33_333), ("small", 1, 122_500), ("mid", 1, 240_001), ("large", 2, 480_007)];
/// What a gigabyte in the registry costs a month, in ten-thousandths.
pub(crate) const STORAGE: i64 = 18_250;

impl World {
    pub(crate) fn new(
        seed: u64,
        store: Store,
        clock: HeldClock,
        queue: Queue,
        schedulers: [Parts; 2],
    ) -> Self {
        let start = clock.now().as_millisecond();
        Self {
            store,
            clock,
            queue,
            schedulers,
            rng: StdRng::seed_from_u64(seed),
            agenda: Agenda::default(),
            nodes: Vec::new(),
            registry: Registry::default(),
            truths: BTreeMap::new(),
            jobs: BTreeMap::new(),
            open: BTreeSet::new(),
            attempts: BTreeMap::new(),
            ledger: Ledger::default(),
            users: Vec::new(),
            projects: Vec::new(),
            plans: Plans::default(),
            prices: FLAVORS.map(|(_, _, price)| vec![(start, price)]).into(),
            dark_until: 0,
            pass_wait: MINUTE,
            expects_jobs: false,
            warned: BTreeMap::new(),
            calm: false,
            tally: Tally::default(),
            next: 0,
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// A number that nothing else has.
    pub(crate) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether something happens that happens so often.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.rng.random_bool(share)
    }

    /// The same of something that should not happen.
    pub(crate) fn fault(&mut self, share: f64) -> bool {
        !self.calm && self.rng.random_bool(share)
    }

    pub(crate) fn between(&mut self, from: i64, to: i64) -> i64 {
        self.rng.random_range(from..=to)
    }

    /// One of so many, which are not none.
    pub(crate) fn any_of(&mut self, count: usize) -> usize {
        self.rng.random_range(0..count)
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { Some(of[self.rng.random_range(0..of.len())]) }
    }

    pub(crate) fn later(&mut self, wait_ms: i64, event: Event) {
        self.agenda.add(self.now() + wait_ms, event);
    }

    pub(crate) fn truth(&self, id: ContainerId) -> Result<&Truth> {
        self.truths.get(&id).with_context(|| format!("the world knows no container {id}"))
    }

    pub(crate) fn truth_mut(&mut self, id: ContainerId) -> Result<&mut Truth> {
        self.truths.get_mut(&id).with_context(|| format!("the world knows no container {id}"))
    }

    pub(crate) fn known(&mut self, id: JobId) -> Result<&mut Known> {
        self.jobs.get_mut(&id).with_context(|| format!("the world knows no job {id}"))
    }

    /// What a flavor cost an hour at a moment, in ten-thousandths.
    pub(crate) fn price(&self, flavor: usize, at_ms: i64) -> i64 {
        let prices = &self.prices[flavor];
        prices.iter().rev().find(|(since, _)| *since <= at_ms).map_or(prices[0].1, |(_, price)| *price)
    }

    /// A flavor as it is offered now.
    pub(crate) fn flavor(&self, flavor: usize) -> Flavor {
        offered(flavor, self.price(flavor, self.now()))
    }

    pub(crate) fn docker(&mut self, node: usize, docker_id: &str) -> Option<&mut DockerBox> {
        self.nodes[node].boxes.get_mut(docker_id)
    }

    /// Something is written in a container that can.
    pub(crate) fn write_in(&mut self, node: usize, docker_id: &str) {
        let content = self.fresh();
        if let Some(found) = self.docker(node, docker_id).filter(|b| b.running && !b.paused) {
            found.content = content;
        }
    }

    /// Lets a frozen container run, and something is written in it.
    pub(crate) fn thaw(&mut self, node: usize, docker_id: &str) {
        if let Some(found) = self.docker(node, docker_id).filter(|b| b.paused) {
            found.paused = false;
            found.ran += 1;
        }
        self.nodes[node].journal.remove(docker_id);
        self.write_in(node, docker_id);
    }

    /// Compares the store's record of a container with what the world has seen.
    pub(crate) fn check_place(&self, container: &Container) -> Result<()> {
        use ContainerState as S;
        let truth = self.truth(container.id)?;
        let agrees = match truth.place {
            Place::Launching => container.state == S::Initializing,
            Place::There => matches!(container.state, S::Ready | S::Stopped | S::Deleting),
            Place::Parked { .. } => container.state == S::Parked,
            Place::Failed => container.state == S::Error,
            Place::Lost => matches!(container.state, S::Lost | S::Deleting),
            Place::Gone => container.state == S::Deleted,
        };
        ensure!(
            agrees,
            "container {} is {}, and by the world {:?}",
            container.id,
            container.state,
            truth.place
        );
        let kept = container.keep_until.map(Timestamp::as_millisecond) == truth.kept.map(|(_, until)| until);
        let protected = container.protected == truth.protected_since.is_some();
        ensure!(protected && kept, "container {} lost its protection", container.id);
        Ok(())
    }

    /// Compares how a parked container would be woken with what was parked.
    pub(crate) fn check_parked(&self, container: &Container) -> Result<()> {
        use mothball_domain::container::Source;
        let Place::Parked { digest, content } = &self.truth(container.id)?.place else { return Ok(()) };
        let Source::Custom { digest: wakes_from, .. } = &container.launch.source else {
            anyhow::bail!("container {} is parked and would wake from its base", container.id);
        };
        ensure!(
            wakes_from == digest,
            "container {} would wake from another image than its own",
            container.id
        );
        self.check_image(container.id, digest, *content)
    }

    /// Whether the registry has all of an image, and what is in it.
    pub(crate) fn check_image(&self, id: ContainerId, digest: &Digest, content: u64) -> Result<()> {
        let image = self.registry.manifests.get(digest).context("the registry has no such image")?;
        ensure!(image.whole, "the registry does not have all blobs of {digest}");
        let (of, held) = (image.of, image.content);
        ensure!((of, held) == (id, content), "{digest} holds {held} of {of}, not {content} of {id}");
        Ok(())
    }

    /// What the node tells of itself.
    pub(crate) fn node_report(&self, node: usize) -> NodeReport {
        let gpu = |index| Gpu { index, uuid: format!("GPU-{index}"), name: "V100".to_owned() };
        NodeReport { gpus: (0..self.nodes[node].gpus).map(gpu).collect(), ..NodeReport::default() }
    }

    pub(crate) fn node_named(&self, name: &NodeName) -> Option<usize> {
        self.nodes.iter().position(|node| node.run.name == *name)
    }

    /// Whether some attempt at a job is under way.
    pub(crate) fn is_at_work(&self, job: JobId) -> bool {
        self.attempts.values().any(|attempt| attempt.job.id == job)
    }

    pub(crate) fn image_of(job: &Job) -> Option<&ImageRef> {
        job.spec.image()
    }
}

pub(crate) fn offered(flavor: usize, price: i64) -> Flavor {
    let (name, gpus, _) = FLAVORS[flavor];
    Flavor {
        name: FlavorName::new(name).expect("a flavor's name"),
        gpus,
        cpus: 4,
        memory: ByteSize(1 << 30),
        shm: None,
        price_per_hour: Decimal::new(price, crate::ledger::PRICE_SCALE),
    }
}
