//! What the world hears of jobs: that they are there, who holds them, and what became of them.

use crate::agenda::Event;
use crate::workers::{Attempt, LEASE};
use crate::world::{HOUR, Known, MINUTE, Origin, Place, World};
use anyhow::{Context, Result, ensure};
use futures_util::FutureExt;
use mothball_domain::id::{ContainerId, Fence, JobId};
use mothball_domain::job::{Job, JobSpec, Then};
use mothball_domain::state::JobState;
use mothball_scheduler::{Parts, Round, once};
use mothball_store::{Claim, JobQuery};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::pin::Pin;
use std::task::{Context as Polling, Poll};

/// Jobs that one worker runs at once.
const SLOTS: usize = 4;

impl World {
    /// Schedulers look soon, because something has changed.
    pub(crate) fn soon(&mut self) {
        self.pass_wait = 2 * MINUTE;
        let wait_ms = self.between(200, 20_000);
        self.later(wait_ms, Event::Pass);
    }

    /// A new job. Whatever was asked for before of its container is over.
    pub(crate) async fn learn(
        &mut self,
        job: &Job,
        origin: Origin,
        size: Option<(usize, i64)>,
    ) -> Result<()> {
        let created = job.created_at.as_millisecond();
        if let Some(id) = job.container {
            if let Some(before) = self.truth(id)?.job {
                self.look_up(before).await?;
                let over = self.known(before)?.over;
                let after = over.is_some_and(|over| over <= created);
                ensure!(after, "container {id} has two unfinished jobs: {before} and {}", job.id);
            }
            self.check_left_alone(id, origin, job)?;
            let truth = self.truth_mut(id)?;
            truth.job = Some(job.id);
            if job.spec == JobSpec::Launch {
                if let Place::Parked { digest, content } = truth.place.clone() {
                    truth.waking = Some((digest, content));
                }
                truth.place = Place::Launching;
            }
        }
        let known =
            Known { origin, fence: Fence(0), size, recorded: None, removed: None, told: None, over: None };
        ensure!(self.jobs.insert(job.id, known).is_none(), "job {} is there twice", job.id);
        self.open.insert(job.id);
        self.soon();
        Ok(())
    }

    /// What is protected is not removed, and what is kept is not touched, by schedules and policies.
    fn check_left_alone(&self, id: ContainerId, origin: Origin, job: &Job) -> Result<()> {
        if matches!(origin, Origin::User(_)) {
            return Ok(());
        }
        let (truth, created) = (self.truth(id)?, job.created_at.as_millisecond());
        let protected =
            job.spec.removes_container() && truth.protected_since.is_some_and(|since| since < created);
        ensure!(!protected, "container {id} is protected, and {origin:?} started job {}", job.id);
        let kept = truth.kept.is_some_and(|(since, until)| since < created && created < until);
        ensure!(!kept, "container {id} is kept, and {origin:?} started job {}", job.id);
        Ok(())
    }

    /// Finds the jobs that schedules and policies have started.
    pub(crate) async fn discover(&mut self) -> Result<()> {
        let mut query = JobQuery { limit: 4, ..JobQuery::default() };
        let mut found: Vec<Job> = Vec::new();
        'pages: loop {
            let page = self.store.jobs(&query).await?;
            for job in page.items {
                if self.jobs.contains_key(&job.id) {
                    break 'pages;
                }
                found.push(job);
            }
            match page.next {
                Some(next) => query.cursor = Some(next.parse()?),
                None => break,
            }
        }
        for job in found.into_iter().rev() {
            self.adopt(&job).await?;
        }
        Ok(())
    }

    async fn adopt(&mut self, job: &Job) -> Result<()> {
        let origin = job.schedule.map_or(Origin::Policy, Origin::Schedule);
        let mut size = None;
        if let (JobSpec::Launch, Some(id)) = (&job.spec, job.container) {
            // A schedule wakes at the price of the moment.
            let flavor = self.truth(id)?.flavor;
            size = Some((flavor, self.price(flavor, job.created_at.as_millisecond())));
        }
        self.learn(job, origin, size).await?;
        match origin {
            Origin::Schedule(_) => self.tally.note("jobs of schedules"),
            // What nobody can restore any more: no policy asks for it.
            _ if matches!(job.spec, JobSpec::PurgeImage { .. }) => {}
            _ => self.check_policy(job).await?,
        }
        self.seen(job).await
    }

    /// Looks what became of a job.
    pub(crate) async fn look_up(&mut self, id: JobId) -> Result<()> {
        if self.known(id)?.over.is_some() {
            return Ok(());
        }
        let job = self.store.job(id).await?.with_context(|| format!("job {id} is gone"))?;
        self.seen(&job).await
    }

    /// A job as somebody was told that it stands.
    pub(crate) async fn seen(&mut self, job: &Job) -> Result<()> {
        if !job.state.is_final() {
            if let Some(at) = job.next_attempt_at.filter(|at| *at > self.clock.now()) {
                self.agenda.add(at.as_millisecond() + 1, Event::Pass);
            }
            return Ok(());
        }
        if self.known(job.id)?.over.is_some() {
            return Ok(());
        }
        let ended = job.finished_at.context("it has no end")?.as_millisecond();
        self.known(job.id)?.over = Some(ended);
        self.open.remove(&job.id);
        self.tally.note(match job.state {
            JobState::Succeeded => "jobs that succeeded",
            JobState::Failed => "jobs that failed",
            _ => "jobs that were cancelled",
        });
        let Some(id) = job.container else { return Ok(()) };
        self.account(id, job, ended)?;
        let container = self.store.container(id).await?.with_context(|| format!("container {id} is gone"))?;
        self.check_place(&container)?;
        self.check_parked(&container)
    }

    /// What the end of a job means for its container and the bill.
    fn account(&mut self, id: ContainerId, job: &Job, ended: i64) -> Result<()> {
        let succeeded = job.state == JobState::Succeeded;
        let (told, size) = (self.known(job.id)?.told, self.known(job.id)?.size);
        match &job.spec {
            JobSpec::Launch if succeeded => {
                let (flavor, price) = size.context("a launch of no size")?;
                self.ledger.runs(id, ended, crate::world::FLAVORS[flavor].0, price)?;
                let node =
                    job.node.as_ref().and_then(|name| self.node_named(name)).context("launched nowhere")?;
                let docker_id = job.checkpoint.created.clone().context("nothing was made")?;
                let truth = self.truth_mut(id)?;
                (truth.flavor, truth.docker) = (flavor, Some((node, docker_id)));
                (truth.place, truth.waking) = (Place::There, None);
                (truth.last_busy, truth.seen_busy) = (ended, ended);
            }
            JobSpec::Launch => {
                let cancelled = job.state == JobState::Cancelled;
                let made = job.checkpoint.created.is_some();
                let truth = self.truth_mut(id)?;
                truth.place = match truth.waking.clone() {
                    _ if made => Place::Failed,
                    Some((digest, content)) => Place::Parked { digest, content },
                    None if cancelled => Place::Gone,
                    None => Place::Failed,
                };
                if made {
                    self.ledger.ends(id, ended)?;
                } else {
                    truth.waking = None;
                }
            }
            JobSpec::Snapshot { then: Then::Park, .. } if succeeded || told.is_some() => {
                let gone_at = told.unwrap_or(ended);
                let (recorded, removed) = (self.known(job.id)?.recorded.clone(), self.known(job.id)?.removed);
                let digest = recorded.context("it was parked without an image")?;
                let content = removed.context("it was parked without a removal")?;
                self.check_image(id, &digest, content)?;
                let bytes = self.registry.manifests.get(&digest).map_or(0, |m| m.bytes);
                self.ledger.is_parked(id, gone_at, bytes, crate::world::STORAGE)?;
                let truth = self.truth_mut(id)?;
                (truth.place, truth.docker) = (Place::Parked { digest, content }, None);
                self.tally.note("parks");
            }
            spec if spec.removes_container() && (succeeded || told.is_some()) => {
                self.ledger.ends(id, told.unwrap_or(ended))?;
                let truth = self.truth_mut(id)?;
                (truth.place, truth.docker, truth.waking) = (Place::Gone, None, None);
            }
            _ => {}
        }
        Ok(())
    }

    /// A worker takes what it was woken for, as far as it has room.
    pub(crate) async fn take_wakes(&mut self, node: usize) -> Result<()> {
        while self.attempts.values().filter(|attempt| attempt.node == node).count() < SLOTS {
            let Some(inbox) = &mut self.nodes[node].inbox else { return Ok(()) };
            let Some(Some(delivery)) = inbox.recv().now_or_never() else { return Ok(()) };
            let id = delivery.job;
            if self.fault(0.02) {
                self.tally.note("wake-ups that were lost");
                delivery.ack().await?;
                continue;
            }
            let run = self.nodes[node].run.clone();
            let claim = self.store.claim(id, &run.name, &run.instance, LEASE).await?;
            delivery.ack().await?;
            if !self.jobs.contains_key(&id) {
                self.discover().await?;
            }
            match claim {
                Claim::Claimed(job) => {
                    let known = self.known(id)?;
                    ensure!(job.fence > known.fence, "job {id} was claimed twice with one fence");
                    ensure!(known.over.is_none(), "job {id} was claimed after its end");
                    known.fence = job.fence;
                    let (no, now) = (self.fresh(), self.now());
                    self.attempts.insert(no, Attempt::new(no, *job, node, now));
                    let wait_ms = self.between(10, 2000);
                    self.later(wait_ms, Event::Step(no));
                }
                Claim::Over => self.look_up(id).await?,
                Claim::Held | Claim::NotDue | Claim::Elsewhere => {}
            }
        }
        Ok(())
    }

    /// Schedulers go round: one, the other, or both at once; now and then one dies half-way.
    pub(crate) async fn pass(&mut self, rounds: &[Round]) -> Result<()> {
        if self.now() < self.dark_until {
            self.agenda.add(self.dark_until + 1000, Event::Pass);
            return Ok(());
        }
        let mut goes = |i: usize| {
            let dies = (!self.calm && self.rng.random_bool(0.02)).then(|| self.rng.random_range(1..40));
            if dies.is_some() {
                self.tally.note("schedulers that died half-way");
            }
            Faltering {
                round: Box::pin(go(self.schedulers[i].clone(), rounds.to_vec())),
                rng: StdRng::seed_from_u64(self.rng.random()),
                dies,
            }
        };
        let which = goes(0);
        let other = goes(1);
        match self.between(0, 9) {
            0..=3 => which.await?,
            4..=6 => other.await?,
            _ => {
                let (one, two) = tokio::join!(which, other);
                one.and(two)?;
            }
        }
        for node in 0..self.nodes.len() {
            self.take_wakes(node).await?;
        }
        if self.expects_jobs || rounds.contains(&Round::Policies) {
            self.discover().await?;
        }
        // What nobody is at work on may have been settled by a scheduler.
        let idle: Vec<JobId> = self.open.iter().copied().filter(|id| !self.is_at_work(*id)).collect();
        self.expects_jobs &= !self.open.is_empty();
        for id in idle {
            self.look_up(id).await?;
        }
        if !self.open.is_empty() {
            self.pass_wait = (self.pass_wait * 2).min(HOUR);
            let wait_ms = self.pass_wait;
            self.later(wait_ms, Event::Pass);
        }
        Ok(())
    }
}

async fn go(parts: Parts, rounds: Vec<Round>) -> Result<()> {
    Ok(Box::pin(once(&parts, &rounds)).await?)
}

/// A scheduler that is held up now and then, so that two never keep step, and that may die before its end.
struct Faltering {
    round: Pin<Box<dyn Future<Output = Result<()>>>>,
    rng: StdRng,
    dies: Option<u32>,
}

impl Future for Faltering {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, polling: &mut Polling<'_>) -> Poll<Result<()>> {
        if self.rng.random_bool(0.3) {
            polling.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(left) = &mut self.dies {
            if *left == 0 {
                return Poll::Ready(Ok(()));
            }
            *left -= 1;
        }
        self.round.as_mut().poll(polling)
    }
}
