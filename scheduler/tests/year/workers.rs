//! Workers of the world: they claim what they are woken for, take the steps that real ones take, in their order, write down
//! what real ones write down, and are stopped, slowed down and killed between any two of them.

mod launch;
mod others;
mod save;

use crate::agenda::Event;
use crate::world::{MINUTE, World};
use anyhow::{Result, ensure};
use mothball_domain::container::Container;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::job::{Checkpoint, Job, JobSpec, Step, Then};
use mothball_store::{Checkpointed, Effect, Outcome, Renewal, Settled, StoreError};
use std::time::Duration;

/// How long a claim protects a job.
pub(crate) const LEASE: Duration = Duration::from_mins(10);
const LEASE_MS: i64 = 10 * MINUTE;
/// How long an attempt waits until nobody else acts on its container.
const LOCK_PATIENCE: i64 = MINUTE / 2;

/// What an attempt does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Lock,
    Begin,
    // A save.
    Live,
    Intend,
    Freeze,
    Put,
    Verify,
    Tag,
    Record,
    Confirm,
    Kill,
    RemoveSaved,
    // A deletion.
    Stop,
    Remove,
    /// The container is gone, and the store is told.
    Tell,
    // A launch.
    Create,
    WriteCreated,
    Start,
    Ready,
    // The deletion of an image.
    Untag,
    RemoveManifest,
    /// Docker starts or stops a container.
    Power,
}

/// What comes of a step.
pub(crate) enum Flow {
    To(Phase),
    Wait(i64),
    End(Effect),
}

/// Why an attempt goes no further.
pub(crate) enum Halt {
    Lost,
    Cancelled,
    Interrupted,
    Failed(Failure),
    /// A promise is broken.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Halt {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Broken(error.into())
    }
}

pub(crate) fn transient(class: FailureClass, what: &str) -> Halt {
    Halt::Failed(Failure::transient(class, what))
}

pub(crate) fn permanent(class: FailureClass, what: &str) -> Halt {
    Halt::Failed(Failure::permanent(class, what))
}

/// A container that this attempt holds still.
struct Held {
    docker_id: String,
    /// Whether it was we who froze it; one that did not run is only watched.
    paused: bool,
    ran: u64,
}

/// An attempt at a job.
pub(crate) struct Attempt {
    no: u64,
    pub(crate) job: Job,
    pub(crate) node: usize,
    checkpoint: Checkpoint,
    step: Option<Step>,
    phase: Phase,
    /// Until when the lease runs, as far as this attempt was told.
    lease_until: i64,
    cancelled: bool,
    lock_since: Option<i64>,
    held: Option<Held>,
    docker_id: Option<String>,
    /// When it looked last whether the container is protected.
    looked_at: i64,
    asleep: bool,
}

impl Attempt {
    pub(crate) fn new(no: u64, job: Job, node: usize, now: i64) -> Self {
        Self {
            no,
            node,
            checkpoint: job.checkpoint.clone(),
            job,
            step: None,
            phase: Phase::Lock,
            lease_until: now + LEASE_MS,
            cancelled: false,
            lock_since: None,
            held: None,
            docker_id: None,
            looked_at: 0,
            asleep: false,
        }
    }

    fn then(&self) -> Then {
        match &self.job.spec {
            JobSpec::Snapshot { then, .. } => *then,
            _ => Then::Keep,
        }
    }

    /// What the store says to a write with this attempt's fence: only the newest may hear that it holds the job.
    fn heard(&mut self, world: &mut World, renewal: Renewal) -> Result<(), Halt> {
        let Renewal::Held { cancel } = renewal else { return Err(Halt::Lost) };
        check_fence(world, &self.job)?;
        self.cancelled |= cancel;
        Ok(())
    }

    async fn save(&mut self, world: &mut World) -> Result<(), Halt> {
        let written =
            Checkpointed { step: self.step, checkpoint: self.checkpoint.clone(), notes: Vec::new() };
        let renewal = world.store.checkpoint(self.job.id, self.job.fence, &written).await?;
        self.heard(world, renewal)?;
        if self.checkpoint.removed_at.is_some() {
            let now = world.now();
            world.known(self.job.id)?.told.get_or_insert(now);
        }
        Ok(())
    }

    /// Begins a step: not when it must stop.
    async fn enter(&mut self, world: &mut World, step: Step) -> Result<(), Halt> {
        self.check_wanted()?;
        self.step = Some(step);
        self.save(world).await
    }

    fn check_wanted(&self) -> Result<(), Halt> {
        if self.cancelled { Err(Halt::Cancelled) } else { Ok(()) }
    }

    /// Makes sure that the job is ours and wanted, as of now.
    async fn confirm(&mut self, world: &mut World) -> Result<(), Halt> {
        let asked_at = world.now();
        let renewal = world.store.renew(self.job.id, self.job.fence, LEASE, None).await?;
        self.heard(world, renewal)?;
        self.lease_until = asked_at + LEASE_MS;
        self.check_wanted()
    }

    /// Asks the clock alone, right before what cannot be undone: the process may have slept since it asked the store.
    fn check_lease(&self, world: &World) -> Result<(), Halt> {
        if world.now() < self.lease_until { Ok(()) } else { Err(Halt::Lost) }
    }

    /// The container as the store has it.
    async fn container(&mut self, world: &mut World) -> Result<Container, Halt> {
        self.looked_at = world.now();
        let gone = || permanent(FailureClass::Gone, "the container's record is gone");
        let id = self.job.container.ok_or_else(gone)?;
        world.store.container(id).await?.ok_or_else(gone)
    }

    /// Its Docker id, where this node is the one that has it.
    fn docker_id_here(&mut self, world: &World, container: &Container) -> Result<String, Halt> {
        if container.node_uid.as_deref() != Some(world.nodes[self.node].run.uid.as_str()) {
            return Err(permanent(FailureClass::Engine, "it belongs to another Docker"));
        }
        let docker_id = container.docker_id.clone();
        let docker_id = docker_id.ok_or_else(|| permanent(FailureClass::Gone, "it is on no node"))?;
        self.docker_id = Some(docker_id.clone());
        Ok(docker_id)
    }

    fn lock(&mut self, world: &mut World) -> Result<Flow, Halt> {
        let Some(id) = self.job.container else { return Ok(Flow::To(Phase::Begin)) };
        let now = world.now();
        let locks = &mut world.nodes[self.node].locks;
        if locks.get(&id).is_none_or(|holder| *holder == self.no) {
            locks.insert(id, self.no);
            return Ok(Flow::To(Phase::Begin));
        }
        if now - *self.lock_since.get_or_insert(now) > LOCK_PATIENCE {
            return Err(transient(FailureClass::Timeout, "another process acts on the container"));
        }
        Ok(Flow::Wait(5000))
    }

    /// Thaws what a dead predecessor froze, and does the first step of what is asked for.
    async fn begin(&mut self, world: &mut World) -> Result<Flow, Halt> {
        if let Some(frozen) = self.checkpoint.frozen.clone() {
            if world.nodes[self.node].journal.contains(&frozen.docker_id) {
                world.thaw(self.node, &frozen.docker_id);
            }
            self.checkpoint.frozen = None;
            self.save(world).await?;
        }
        match self.job.spec {
            JobSpec::Snapshot { .. } => self.preflight(world).await,
            JobSpec::Delete => self.stop_to_delete(world).await,
            JobSpec::Launch => self.fetch(world).await,
            JobSpec::DeleteImage { .. } => Ok(Flow::To(Phase::Untag)),
            JobSpec::PurgeImage { .. } => Ok(Flow::To(Phase::RemoveManifest)),
            JobSpec::RestoreImage { .. } => {
                Err(permanent(FailureClass::Internal, "nobody restores images in this world"))
            }
            JobSpec::Start | JobSpec::Stop => Ok(Flow::To(Phase::Power)),
        }
    }

    async fn take_step(&mut self, world: &mut World) -> Result<Flow, Halt> {
        if self.phase != Phase::Tell && world.fault(0.008) {
            world.tally.note("failed attempts");
            return Err(transient(FailureClass::Network, "a connection broke"));
        }
        match self.phase {
            Phase::Lock => self.lock(world),
            Phase::Begin => self.begin(world).await,
            Phase::Live => self.live(world).await,
            Phase::Intend => self.intend(world).await,
            Phase::Freeze => self.freeze(world),
            Phase::Put => self.put(world).await,
            Phase::Verify => self.verify(world).await,
            Phase::Tag => self.tag(world).await,
            Phase::Record => self.record(world).await,
            Phase::Confirm => self.may_remove(world).await,
            Phase::Kill => self.kill(world).await,
            Phase::RemoveSaved => self.remove_saved(world),
            Phase::Stop => Ok(self.stop_box(world)),
            Phase::Remove => self.remove(world).await,
            Phase::Tell => self.tell(world).await,
            Phase::Create => self.create(world).await,
            Phase::WriteCreated => self.write_created(world).await,
            Phase::Start => self.start(world).await,
            Phase::Ready => self.ready(world).await,
            Phase::Untag => self.untag(world).await,
            Phase::RemoveManifest => self.remove_manifest(world).await,
            Phase::Power => self.power(world).await,
        }
    }

    /// What the attempt leaves behind, and its last word.
    async fn settle(mut self, world: &mut World, ended: Result<Effect, Halt>) -> Result<()> {
        let is_lost = matches!(ended, Err(Halt::Lost));
        if let Some(held) = self.held.take()
            && held.paused
        {
            // Nothing is left to thaw where the container is gone.
            world.thaw(self.node, &held.docker_id);
            self.checkpoint.frozen = None;
        }
        let undo = matches!(ended, Err(Halt::Failed(_) | Halt::Cancelled));
        if undo && self.job.spec == JobSpec::Launch {
            self.remove_made(world);
        }
        let outcome = match ended {
            Ok(effect) => Some(Outcome::Succeeded(effect)),
            Err(Halt::Lost) => None,
            Err(Halt::Broken(error)) => return Err(error),
            Err(Halt::Cancelled) => Some(Outcome::Cancelled),
            Err(Halt::Interrupted) => Some(Outcome::Interrupted),
            Err(Halt::Failed(failure)) => {
                let wait_ms = world.between(2000, 5 * MINUTE).unsigned_abs();
                Some(Outcome::Failed { failure, retry_after: Duration::from_millis(wait_ms) })
            }
        };
        if is_lost {
            world.tally.note("holders that had lost their job");
        }
        if let Some(outcome) = outcome {
            match self.save(world).await {
                Ok(()) => {
                    let settled = world.store.settle(self.job.id, self.job.fence, &outcome).await?;
                    if let Settled::Done(job) = settled {
                        check_fence(world, &job)?;
                        world.seen(&job).await?;
                    }
                }
                Err(Halt::Broken(error)) => return Err(error),
                Err(_) => world.tally.note("last words that came too late"),
            }
        }
        if let Some(id) = self.job.container
            && world.nodes[self.node].locks.get(&id) == Some(&self.no)
        {
            world.nodes[self.node].locks.remove(&id);
        }
        world.soon();
        Ok(())
    }
}

fn check_fence(world: &World, job: &Job) -> Result<()> {
    let newest = world.jobs.get(&job.id).map(|known| known.fence);
    ensure!(newest == Some(job.fence), "job {}: the word of a holder of before was taken", job.id);
    Ok(())
}

impl World {
    /// An attempt takes its next step, unless its process is stopped or killed first.
    pub(crate) async fn step(&mut self, no: u64) -> Result<()> {
        let Some(mut attempt) = self.attempts.remove(&no) else { return Ok(()) };
        if !attempt.asleep && self.fault(0.01) {
            self.tally.note("processes that slept");
            attempt.asleep = true;
            let sleep_ms = self.between(LEASE_MS / 4, LEASE_MS * 4);
            self.attempts.insert(no, attempt);
            self.later(sleep_ms, Event::Step(no));
            return Ok(());
        }
        // Most dangerous is the moment between the removal and the word of it.
        if self.fault(if attempt.phase == Phase::Tell { 0.03 } else { 0.004 }) {
            let node = attempt.node;
            self.attempts.insert(no, attempt);
            self.worker_dies(node);
            return Ok(());
        }
        let woke_up = std::mem::take(&mut attempt.asleep);
        let low = attempt.lease_until - self.now() < LEASE_MS / 2;
        // Who wakes up may act before it hears that its lease has ended.
        let renews = if woke_up { self.chance(0.3) } else { low };
        let mut stepped = Ok(Flow::Wait(0));
        if renews {
            stepped = attempt.confirm_lease(self).await.map(|()| Flow::Wait(0));
        }
        if stepped.is_ok() {
            stepped = attempt.take_step(self).await;
        }
        let wait_ms = match stepped {
            Ok(Flow::End(effect)) => return attempt.settle(self, Ok(effect)).await,
            Err(halt) => return attempt.settle(self, Err(halt)).await,
            Ok(Flow::Wait(wait_ms)) => wait_ms,
            Ok(Flow::To(phase)) => {
                attempt.phase = phase;
                match phase {
                    Phase::Freeze | Phase::Verify => self.between(1000, 4 * MINUTE),
                    _ => self.between(50, MINUTE / 4),
                }
            }
        };
        self.attempts.insert(no, attempt);
        self.later(wait_ms, Event::Step(no));
        Ok(())
    }

    /// A worker is told to stop: what it does is interrupted, or seen to its end where there is no way back.
    pub(crate) async fn worker_stops(&mut self, node: usize) -> Result<()> {
        let numbers: Vec<u64> =
            self.attempts.iter().filter(|(_, a)| a.node == node).map(|(no, _)| *no).collect();
        for no in numbers {
            let Some(mut attempt) = self.attempts.remove(&no) else { continue };
            let ended = if attempt.phase == Phase::Tell {
                attempt.tell(self).await.map(|_| Effect::Removed)
            } else {
                Err(Halt::Interrupted)
            };
            attempt.settle(self, ended).await?;
        }
        self.tally.note("workers that were stopped");
        self.store.node_stopped(&self.nodes[node].run.clone()).await?;
        self.no_worker(node);
        Ok(())
    }

    /// A worker is killed. Mostly its guard survives it, and thaws what it had frozen.
    fn worker_dies(&mut self, node: usize) {
        self.tally.note("workers that were killed");
        self.attempts.retain(|_, attempt| attempt.node != node);
        if self.chance(0.8) {
            for docker_id in self.nodes[node].journal.clone() {
                self.thaw(node, &docker_id);
            }
        }
        self.no_worker(node);
    }

    fn no_worker(&mut self, node: usize) {
        let node_there = &mut self.nodes[node];
        node_there.inbox = None;
        node_there.locks.clear();
        node_there.idle.clear();
        let wait_ms = match self.between(0, 99) {
            // Nobody sees to the node: what only it can do is given up at last.
            0 if !self.calm => 5 * crate::world::DAY,
            1..=20 => self.between(MINUTE, crate::world::HOUR * 5),
            _ => self.between(1000, 10 * MINUTE),
        };
        self.later(wait_ms, Event::Start(node));
        self.soon();
    }
}

impl Attempt {
    /// Renews the lease, as a worker does all the time; a cancel is heard of and heeded later.
    async fn confirm_lease(&mut self, world: &mut World) -> Result<(), Halt> {
        match self.confirm(world).await {
            Err(Halt::Cancelled) => Ok(()),
            done => done,
        }
    }
}

impl Attempt {
    /// The Docker id of the container that it holds frozen, or is about to.
    pub(crate) fn freezes(&self) -> Option<String> {
        let about_to = self.docker_id.clone().filter(|_| self.phase == Phase::Freeze);
        self.held.as_ref().map(|held| held.docker_id.clone()).or(about_to)
    }
}
