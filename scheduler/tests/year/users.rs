//! What people do: each has habits that the seed gave them.

use crate::agenda::Event;
use crate::world::{DAY, HOUR, Origin, Place, Truth, World};
use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use mothball_domain::container::{Launch, Source};
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::image::ImageRef;
use mothball_domain::job::{JobSpec, PauseMode, Then};
use mothball_domain::label::Labels;
use mothball_domain::name::{ContainerName, ImageName, ProjectName, UserName};
use mothball_store::{
    Cancelled, ContainerChange, Idempotency, NewContainer, Retried, Submission, Submitted, Target,
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Attempts that a job gets.
pub(crate) const ATTEMPTS: u32 = 5;
/// How long images can be restored.
pub(crate) const UNDO: std::time::Duration = std::time::Duration::from_hours(48);
/// How lately a node must have reported.
pub(crate) const ALIVE: std::time::Duration = std::time::Duration::from_hours(30);

/// A user and their habits.
pub(crate) struct User {
    pub(crate) name: UserName,
    pub(crate) project: usize,
    /// How long it is, on average, until they do something again.
    pub(crate) every: i64,
    /// Whether they have their container parked by schedule, and that every night.
    pub(crate) plans: bool,
    pub(crate) daily: bool,
    pub(crate) containers: Vec<ContainerId>,
    /// Images that they have saved and kept.
    pub(crate) saved: Vec<ImageRef>,
    /// Their job that failed last.
    pub(crate) asked: Option<JobId>,
}

/// A project.
pub(crate) struct Project {
    pub(crate) name: ProjectName,
    pub(crate) policy: mothball_domain::policy::ParkPolicy,
}

impl World {
    /// A user does something, and something else some days later.
    pub(crate) async fn acts(&mut self, user: usize) -> Result<()> {
        if self.expects_jobs {
            self.discover().await?;
        }
        let every = self.users[user].every;
        let wait_ms = self.between(every / 4, every * 7 / 4);
        self.later(wait_ms, Event::User(user));
        self.after_the_last(user).await?;
        let truths = &self.truths;
        self.users[user].containers.retain(|id| truths.get(id).is_none_or(|t| t.place != Place::Gone));
        let owned = self.users[user].containers.clone();
        let Some(id) = self.pick(&owned) else { return self.launches(user).await };
        match self.truth(id)?.place.clone() {
            Place::There => self.at_work(user, id).await,
            Place::Parked { .. } => self.with_parked(user, id).await,
            Place::Failed | Place::Lost => self.with_broken(user, id).await,
            Place::Launching | Place::Gone => Ok(()),
        }
    }

    /// What they asked for last: they stop it, or have it tried again.
    pub(crate) async fn after_the_last(&mut self, user: usize) -> Result<()> {
        let Some(job) = self.users[user].asked else { return Ok(()) };
        if self.open.contains(&job) {
            if self.chance(0.5) {
                match self.store.cancel(job).await? {
                    Cancelled::Done(job) | Cancelled::Over(job) => self.seen(&job).await?,
                    Cancelled::Requested(_) => self.soon(),
                    Cancelled::NoJob => bail!("job {job} is gone"),
                }
            }
        } else if self.chance(0.3) {
            self.users[user].asked = None;
            if let Retried::Queued(again) = self.store.retry(job, ALIVE).await? {
                self.tally.note("jobs that were tried again");
                let truth_job = again.container;
                let known = self.known(job)?;
                (known.over, known.recorded, known.removed, known.told) = (None, None, None, None);
                self.open.insert(job);
                if let Some(id) = truth_job {
                    let truth = self.truth_mut(id)?;
                    truth.job = Some(job);
                    if again.spec == JobSpec::Launch {
                        if let Place::Parked { digest, content } = truth.place.clone() {
                            truth.waking = Some((digest, content));
                        }
                        truth.place = Place::Launching;
                    }
                }
                self.soon();
            }
        }
        Ok(())
    }

    async fn launches(&mut self, user: usize) -> Result<()> {
        let number = self.fresh();
        let name = ContainerName::new(format!("box-{number}"))?;
        let flavor = self.pick(&[0, 0, 0, 0, 0, 1, 1, 2, 3]).unwrap_or(0);
        let saved = self.users[user].saved.clone();
        let from = if self.chance(0.3) { self.rng_pick(&saved) } else { None };
        let project = self.projects[self.users[user].project].name.clone();
        let mut source = Source::Catalog { name: "base".to_owned(), reference: "registry/base:1".to_owned() };
        let mut image_name = ImageName::new("base")?;
        if let Some(image) = from
            && let Some(found) = self.store.image(&project, &image).await?
        {
            image_name = image.name.clone();
            source = Source::Custom { image, digest: found.digest, reference: found.reference };
            self.tally.note("launches of saved images");
        }
        let new = NewContainer {
            name,
            launch: Launch {
                source,
                flavor: self.flavor(flavor),
                env: BTreeMap::new(),
                mounts: Vec::new(),
                ports: vec![22],
            },
            image_name: image_name.clone(),
            description: String::new(),
            labels: Labels::default(),
        };
        let size = (flavor, self.price(flavor, self.now()));
        let asked = self.ask(user, JobSpec::Launch, Target::New(Box::new(new)), Some(size)).await?;
        if let Some(id) = asked
            && self.users[user].plans
        {
            self.make_plans(user, id).await?;
        }
        Ok(())
    }

    async fn at_work(&mut self, user: usize, id: ContainerId) -> Result<()> {
        let does = self.between(0, 99);
        match does {
            0..=34 => self.works(id)?,
            35..=59 => return self.saves(user, id, Then::Park).await,
            60..=69 => return self.saves(user, id, Then::Keep).await,
            70..=72 => return self.saves(user, id, Then::Delete).await,
            73..=75 => {
                self.ask(user, JobSpec::Delete, Target::Container(id), None).await?;
            }
            76..=79 => {
                self.ask(user, JobSpec::Stop, Target::Container(id), None).await?;
            }
            80..=83 => {
                self.ask(user, JobSpec::Start, Target::Container(id), None).await?;
            }
            84..=89 => return self.protects(id).await,
            90..=96 => return self.keeps(id).await,
            97 => self.vanishes(id)?,
            _ => return self.deletes_an_image(user).await,
        }
        Ok(())
    }

    /// Works for some hours: the container is busy and is written in.
    pub(crate) fn works(&mut self, id: ContainerId) -> Result<()> {
        let until = self.now() + self.between(HOUR, 5 * DAY);
        let truth = self.truth_mut(id)?;
        truth.last_busy = truth.last_busy.max(until);
        if let Some((node, docker_id)) = truth.docker.clone() {
            self.write_in(node, &docker_id);
        }
        Ok(())
    }

    async fn saves(&mut self, user: usize, id: ContainerId, then: Then) -> Result<()> {
        let name = self.truth(id)?.image_name.clone();
        let number = self.fresh();
        // Now and then over what they have saved before.
        let before = self.users[user].saved.clone();
        let again =
            if self.chance(0.3) { self.rng_pick(&before).filter(|image| image.name == name) } else { None };
        let image = match again {
            Some(image) => image,
            None => ImageRef { name, tag: format!("t{number}").parse()? },
        };
        let spec = JobSpec::Snapshot {
            image: image.clone(),
            then,
            pause: PauseMode::Auto,
            discard_volumes: false,
            excludes: Vec::new(),
        };
        self.ask(user, spec, Target::Container(id), None).await?;
        if !self.users[user].saved.contains(&image) {
            self.users[user].saved.push(image);
        }
        Ok(())
    }

    async fn protects(&mut self, id: ContainerId) -> Result<()> {
        let protected = self.truth(id)?.protected_since.is_none();
        let change = ContainerChange { protected: Some(protected), ..ContainerChange::default() };
        if self.store.change_container(id, &change).await?.is_some() {
            let now = self.now();
            self.truth_mut(id)?.protected_since = protected.then_some(now);
        }
        Ok(())
    }

    async fn keeps(&mut self, id: ContainerId) -> Result<()> {
        let now = self.now();
        let until = now + self.between(HOUR, 20 * DAY);
        let change = ContainerChange {
            keep_until: Some(Some(Timestamp::from_millisecond(until)?)),
            ..ContainerChange::default()
        };
        if self.store.change_container(id, &change).await?.is_some() {
            self.truth_mut(id)?.kept = Some((now, until));
        }
        Ok(())
    }

    /// Somebody removes it by Docker itself, or it ends by itself; not while a job is at work on it.
    fn vanishes(&mut self, id: ContainerId) -> Result<()> {
        let busy = self.truth(id)?.job.is_some_and(|job| self.open.contains(&job));
        if let Some((node, docker_id)) = self.truth(id)?.docker.clone().filter(|_| !busy && !self.calm) {
            if self.chance(0.5) {
                self.nodes[node].boxes.remove(&docker_id);
            } else if let Some(found) = self.docker(node, &docker_id) {
                found.running = false;
            }
            self.tally.note("containers that were removed or ended behind our back");
        }
        Ok(())
    }

    async fn with_parked(&mut self, user: usize, id: ContainerId) -> Result<()> {
        match self.between(0, 99) {
            0..=74 => {
                let had = self.truth(id)?.flavor;
                let flavor = if self.chance(0.15) { self.between(0, 3) as usize } else { had };
                let size = (flavor, self.price(flavor, self.now()));
                let target = Target::Wake(id, Box::new(self.flavor(flavor)));
                self.ask(user, JobSpec::Launch, target, Some(size)).await?;
            }
            75..=78 => {
                self.ask(user, JobSpec::Delete, Target::Container(id), None).await?;
            }
            79..=82 => self.protects(id).await?,
            83..=92 => self.deletes_an_image(user).await?,
            _ => {}
        }
        Ok(())
    }

    async fn with_broken(&mut self, user: usize, id: ContainerId) -> Result<()> {
        let lost = self.truth(id)?.place == Place::Lost;
        if lost && self.chance(0.4) && self.store.forget_container(id).await? {
            self.truth_mut(id)?.place = Place::Gone;
            return Ok(());
        }
        if self.truth(id)?.protected_since.is_some() {
            self.protects(id).await?;
        }
        self.ask(user, JobSpec::Delete, Target::Container(id), None).await?;
        Ok(())
    }

    async fn deletes_an_image(&mut self, user: usize) -> Result<()> {
        let project = self.projects[self.users[user].project].name.clone();
        let page = self.store.images(&project, None, 50).await?;
        let images: Vec<_> = page.items.into_iter().map(|i| (i.image, i.digest)).collect();
        let chosen = self.rng_pick(&images);
        if let Some((image, digest)) = chosen {
            self.ask(user, JobSpec::DeleteImage { image, digest }, Target::Image, None).await?;
        }
        Ok(())
    }

    pub(crate) fn rng_pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { of.get(self.any_of(of.len())).cloned() }
    }

    /// A user asks for a job, now and then twice; the container that it is about, where it is a new job.
    async fn ask(
        &mut self,
        user: usize,
        spec: JobSpec,
        target: Target,
        size: Option<(usize, i64)>,
    ) -> Result<Option<ContainerId>> {
        let key = self.chance(0.5).then(|| self.fresh());
        let idempotency =
            key.map(|key| Idempotency { key: key.to_string(), body_sha256: "the same".to_owned() });
        let submission = Submission {
            id: JobId(Uuid::now_v7()),
            spec,
            user: self.users[user].name.clone(),
            project: self.projects[self.users[user].project].name.clone(),
            target,
            schedule: None,
            idempotency,
            max_attempts: ATTEMPTS,
            alive_within: ALIVE,
        };
        let first = self.store.submit(&submission).await?;
        let again = Submission { id: JobId(Uuid::now_v7()), ..submission.clone() };
        let second = if self.chance(0.1) { Some(self.store.submit(&again).await?) } else { None };
        let job = match first {
            Submitted::New(job) => job,
            Submitted::Joined(_) => return Ok(None),
            Submitted::Replayed(job) => bail!("a fresh request was job {}", job.id),
            _ => {
                self.tally.note("requests that were refused");
                return Ok(None);
            }
        };
        if let Some(second) = second {
            let same = match &second {
                Submitted::Replayed(other) => key.is_some() && other.id == job.id,
                Submitted::Joined(other) => key.is_none() && other.id == job.id,
                _ => false,
            };
            ensure!(same, "the same request again came to {second:?}");
        }
        if let (Target::New(new), Some(id)) = (&submission.target, job.container) {
            let truth = Truth {
                user,
                place: Place::Launching,
                waking: None,
                flavor: size.context("a launch of no size")?.0,
                protected_since: None,
                kept: None,
                last_busy: self.now(),
                seen_busy: self.now(),
                docker: None,
                job: None,
                image_name: new.image_name.clone(),
            };
            ensure!(self.truths.insert(id, truth).is_none(), "container {id} is there twice");
            self.ledger.is_new(id, submission.project.as_str(), submission.user.as_str());
            self.users[user].containers.push(id);
        }
        self.users[user].asked = Some(job.id);
        if self.chance(0.06) {
            let wait_ms = self.between(1000, HOUR / 3);
            self.later(wait_ms, Event::Regret(user));
        }
        self.learn(&job, Origin::User(user), size).await?;
        Ok(job.container)
    }
}
