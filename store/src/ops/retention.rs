//! Letting images go as their projects' policies say: a notice, its withdrawal, a removal, each in one step with what led to
//! it, so that two schedulers give notice once and remove once.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::need::{containers, launches_from, members};
use crate::ops::notices::tell;
use crate::ops::submit::{Submission, Submitted, Target, submit, unfinished};
use crate::ops::{transact, undo};
use crate::{Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::container::{Container, Source};
use mothball_domain::id::JobId;
use mothball_domain::image::{Digest, Image, ImageRef};
use mothball_domain::job::{Job, JobSpec};
use mothball_domain::name::{ContainerName, ImageName, ProjectName};
use mothball_domain::notice::News;
use mothball_domain::retention::{Candidate, RemovalNotice, RetentionPolicy, Stay, Verdict, decide};
use mothball_domain::undo::Gone;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most projects of one platform that have a policy.
const PROJECTS_MAX: usize = 100_000;

/// What whoever applies policies must know.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retaining {
    /// How long after its notice an image is removed.
    pub notice: Duration,
    /// How long a removed image can be restored.
    pub undo: Duration,
    /// Attempts that jobs get.
    pub max_attempts: u32,
}

/// What was done about an image.
#[derive(Debug, Clone, PartialEq)]
pub enum Retained {
    /// Its owner is to be told.
    Noticed(RemovalNotice, Box<Image>),
    /// The reason has gone, and the notice with it.
    Withdrawn(Stay, Box<Image>),
    /// Its notice has run its time: it is to be removed.
    Due(ImageRef),
    /// It is removed, and can be restored; this job takes its tag away in the registry.
    Removed(RemovalNotice, Box<Image>, Box<Job>),
    /// Nothing was to be done any more.
    Nothing,
}

/// What a policy would do about an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// The image.
    pub image: Image,
    /// What would be done about it now.
    pub verdict: Verdict,
    /// Bytes that its removal frees at most: images share layers. 0 where another image that stays has the same content.
    pub frees_bytes: u64,
}

impl Store {
    /// A project's policy about images; the one that lets nothing go where none was set.
    pub async fn retention_policy(&self, project: &ProjectName) -> Result<RetentionPolicy, StoreError> {
        Ok(Tx::new(&self.db).get(&keys::retention_policy(project)).await?.unwrap_or_default())
    }

    /// Sets a project's policy. Atomic, idempotent.
    pub async fn set_retention_policy(
        &self,
        project: &ProjectName,
        policy: &RetentionPolicy,
    ) -> Result<(), StoreError> {
        transact!(self, |tx| set(tx, project, policy))
    }

    /// Forgets that a project had a policy, if that lets nothing go now: the caller has withdrawn its notices. Atomic,
    /// idempotent.
    pub async fn end_retention_policy(&self, project: &ProjectName) -> Result<(), StoreError> {
        transact!(self, |tx| end(tx, project).await)
    }

    /// Projects that have a policy, or had one of which notices may stand, by name.
    pub async fn projects_with_retention_policy(&self) -> Result<Vec<ProjectName>, StoreError> {
        let members = self.db.scan(keys::RETENTION_POLICIES, None, Order::Ascending, PROJECTS_MAX).await?;
        Ok(members.into_iter().filter_map(|member| ProjectName::new(member).ok()).collect())
    }

    /// The names of a project's images, without tags, each once.
    pub async fn image_names(&self, project: &ProjectName) -> Result<BTreeSet<ImageName>, StoreError> {
        let members = members(&self.db, &keys::images_of_project(project)).await?;
        Ok(members.iter().filter_map(|m| m.parse::<ImageRef>().ok()).map(|image| image.name).collect())
    }

    /// Does what the project's policy says about the images of one name, except removing them: notices are written and
    /// withdrawn. Atomic; asked for twice it does nothing the second time.
    pub async fn retain(
        &self,
        project: &ProjectName,
        name: &ImageName,
        retaining: &Retaining,
    ) -> Result<Vec<Retained>, StoreError> {
        transact!(self, |tx| retain(tx, self, project, name, retaining).await)
    }

    /// Removes an image whose notice has run its time, if the policy still says so. `job` is a fresh id for the job that
    /// takes the tag away in the registry. Atomic; of two at once, one removes it.
    pub async fn retain_no_more(
        &self,
        project: &ProjectName,
        image: &ImageRef,
        job: JobId,
        retaining: &Retaining,
    ) -> Result<Retained, StoreError> {
        let removed = transact!(self, |tx| remove(tx, self, (project, image), job, retaining).await);
        if let Ok(Retained::Removed(_, _, job)) = &removed {
            self.count_submitted(job);
        }
        removed
    }

    /// What `policy` would do about every image of a project now, by name and tag. Changes nothing.
    pub async fn would_retain(
        &self,
        project: &ProjectName,
        policy: &RetentionPolicy,
        retaining: &Retaining,
    ) -> Result<Vec<Forecast>, StoreError> {
        let used = self.used_images(project).await?;
        let mut tx = Tx::new(&self.db);
        let mut all = Vec::new();
        for name in self.image_names(project).await? {
            let candidates = Candidates::read(&mut tx, self, project, &name).await?;
            all.extend(candidates.decided(&mut tx, policy, &used, retaining).await?);
        }
        Ok(forecasts(all))
    }

    /// The notices that stand for these images of a project.
    pub async fn removal_notices(
        &self,
        project: &ProjectName,
        images: &[ImageRef],
    ) -> Result<BTreeMap<ImageRef, RemovalNotice>, StoreError> {
        let mut tx = Tx::new(&self.db);
        tx.load(&images.iter().map(|image| keys::removal_notice(project, image)).collect::<Vec<_>>()).await?;
        let mut found = BTreeMap::new();
        for image in images {
            if let Some(notice) = tx.get(&keys::removal_notice(project, image)).await? {
                found.insert(image.clone(), notice);
            }
        }
        Ok(found)
    }

    /// What the project's containers have of its images. Not part of what a commit checks: to be read after the images and
    /// their jobs, because whoever parks a container has the image's job until that is parked.
    async fn used_images(&self, project: &ProjectName) -> Result<UsedImages, StoreError> {
        let mut used = UsedImages::default();
        for container in containers(&self.db, project).await? {
            used.note(container);
        }
        Ok(used)
    }
}

/// What containers have of images.
#[derive(Default)]
struct UsedImages {
    /// Digests that containers will be launched from.
    needed: BTreeMap<Digest, ContainerName>,
    /// Images that a parked container was saved as, whatever they name by now.
    parked: BTreeMap<ImageRef, ContainerName>,
    /// Images that containers were launched from which are there.
    in_use: BTreeSet<ImageRef>,
}

impl UsedImages {
    fn note(&mut self, container: Container) {
        if let Some(digest) = launches_from(&container) {
            self.needed.insert(digest.clone(), container.name.clone());
        }
        if let Some(image) = container.parked_image {
            self.parked.insert(image, container.name.clone());
        }
        if let Source::Custom { image, .. } = container.launch.source
            && container.state.exists()
        {
            self.in_use.insert(image);
        }
    }

    fn needed_by(&self, image: &Image) -> Option<&ContainerName> {
        self.needed.get(&image.digest).or_else(|| self.parked.get(&image.image))
    }
}

fn set(tx: &mut Tx<'_>, project: &ProjectName, policy: &RetentionPolicy) -> Result<(), StoreError> {
    tx.put(&keys::retention_policy(project), policy)?;
    tx.add(keys::RETENTION_POLICIES, project.as_str(), 0);
    Ok(())
}

async fn end(tx: &mut Tx<'_>, project: &ProjectName) -> Result<(), StoreError> {
    let policy: RetentionPolicy = tx.get(&keys::retention_policy(project)).await?.unwrap_or_default();
    if policy.is_off() {
        tx.delete(&keys::retention_policy(project));
        tx.remove(keys::RETENTION_POLICIES, project.as_str());
    }
    Ok(())
}

async fn retain(
    tx: &mut Tx<'_>,
    store: &Store,
    project: &ProjectName,
    name: &ImageName,
    retaining: &Retaining,
) -> Result<Vec<Retained>, StoreError> {
    let policy: RetentionPolicy = tx.get(&keys::retention_policy(project)).await?.unwrap_or_default();
    let mut done = Vec::new();
    for (image, verdict) in decided(tx, store, (project, name), &policy, retaining).await? {
        match verdict {
            Verdict::Stay(_) | Verdict::Busy | Verdict::Wait(_) => {}
            Verdict::Withdraw(why) => {
                tx.delete(&keys::removal_notice(project, &image.image));
                done.push(Retained::Withdrawn(why, Box::new(image)));
            }
            Verdict::Notice(notice) => {
                give_notice(tx, &image, &notice).await?;
                done.push(Retained::Noticed(notice, Box::new(image)));
            }
            Verdict::Remove(_) => done.push(Retained::Due(image.image)),
        }
    }
    Ok(done)
}

/// Writes the notice of an image's removal: the one place where one is first written, and its owner told.
async fn give_notice(tx: &mut Tx<'_>, image: &Image, notice: &RemovalNotice) -> Result<(), StoreError> {
    tx.put(&keys::removal_notice(&image.project, &image.image), notice)?;
    let news = News::ImageExpiring {
        image: image.image.clone(),
        remove_at: notice.remove_at,
        reason: notice.reason,
        size_bytes: image.size_bytes,
    };
    tell(tx, &image.project, Some(&image.created_by), news).await
}

async fn remove(
    tx: &mut Tx<'_>,
    store: &Store,
    (project, image): (&ProjectName, &ImageRef),
    job: JobId,
    retaining: &Retaining,
) -> Result<Retained, StoreError> {
    let policy: RetentionPolicy = tx.get(&keys::retention_policy(project)).await?.unwrap_or_default();
    let decided = decided(tx, store, (project, &image.name), &policy, retaining).await?;
    let Some((found, Verdict::Remove(notice))) = decided.into_iter().find(|(found, _)| found.image == *image)
    else {
        return Ok(Retained::Nothing);
    };
    let submission = Submission {
        id: job,
        spec: JobSpec::DeleteImage { image: image.clone(), digest: found.digest.clone() },
        user: found.created_by.clone(),
        project: project.clone(),
        target: Target::Image,
        schedule: None,
        idempotency: None,
        max_attempts: retaining.max_attempts,
        alive_within: Duration::ZERO,
    };
    let Submitted::New(job) = submit(tx, &submission).await? else { return Ok(Retained::Nothing) };
    // Here and not at the job's end: between the two somebody might pin it, or launch from it.
    let by = found.created_by.clone();
    undo::delete(tx, found.clone(), Gone::Retention, &by, retaining.undo).await?;
    Ok(Retained::Removed(notice, Box::new(found), job))
}

/// The images of one name, and what a policy says about each.
async fn decided(
    tx: &mut Tx<'_>,
    store: &Store,
    (project, name): (&ProjectName, &ImageName),
    policy: &RetentionPolicy,
    retaining: &Retaining,
) -> Result<Vec<(Image, Verdict)>, StoreError> {
    let candidates = Candidates::read(tx, store, project, name).await?;
    let used = store.used_images(project).await?;
    candidates.decided(tx, policy, &used, retaining).await
}

/// The images of one name.
struct Candidates(Vec<Image>);

impl Candidates {
    /// Reads them, with all that is decided by.
    async fn read(
        tx: &mut Tx<'_>,
        store: &Store,
        project: &ProjectName,
        name: &ImageName,
    ) -> Result<Self, StoreError> {
        let members = members(&store.db, &keys::images_of_name(project, name)).await?;
        let refs: Vec<ImageRef> = members.iter().filter_map(|member| member.parse().ok()).collect();
        let needed = |image: &ImageRef| {
            [
                keys::image(project, image),
                keys::removal_notice(project, image),
                keys::image_job(project, image),
            ]
        };
        tx.load(&refs.iter().flat_map(needed).collect::<Vec<_>>()).await?;
        let records: Vec<String> = refs.iter().map(|image| keys::image(project, image)).collect();
        Ok(Self(tx.get_many(&records).await?))
    }

    async fn decided(
        self,
        tx: &mut Tx<'_>,
        policy: &RetentionPolicy,
        used: &UsedImages,
        retaining: &Retaining,
    ) -> Result<Vec<(Image, Verdict)>, StoreError> {
        let now = tx.now().await?;
        let mut candidates = Vec::new();
        for image in &self.0 {
            candidates.push(candidate(tx, image, used, now).await?);
        }
        let verdicts = decide(policy, &candidates, retaining.notice, now);
        Ok(self.0.into_iter().zip(verdicts).collect())
    }
}

async fn candidate(
    tx: &mut Tx<'_>,
    image: &Image,
    used: &UsedImages,
    now: Timestamp,
) -> Result<Candidate, StoreError> {
    let busy = match tx.get::<JobId>(&keys::image_job(&image.project, &image.image)).await? {
        Some(job) => unfinished(tx, job).await?.is_some(),
        None => false,
    };
    let last_used = image.last_used_at.unwrap_or(image.updated_at);
    Ok(Candidate {
        image: image.image.clone(),
        digest: image.digest.clone(),
        saved_at: image.updated_at,
        used_at: if used.in_use.contains(&image.image) { now } else { last_used },
        pinned: image.pinned,
        needed_by: used.needed_by(image).cloned(),
        busy,
        notice: tx.get(&keys::removal_notice(&image.project, &image.image)).await?,
    })
}

fn forecasts(all: Vec<(Image, Verdict)>) -> Vec<Forecast> {
    let goes = |v: &Verdict| matches!(v, Verdict::Notice(_) | Verdict::Wait(_) | Verdict::Remove(_));
    // Images of one name share a repository, and content where it is the same.
    let content = |image: &Image| (image.image.name.clone(), image.digest.clone());
    let mut kept: BTreeSet<_> =
        all.iter().filter(|(_, verdict)| !goes(verdict)).map(|(image, _)| content(image)).collect();
    let forecast = |(image, verdict): (Image, Verdict)| {
        let frees = goes(&verdict) && kept.insert(content(&image));
        Forecast { frees_bytes: if frees { image.size_bytes } else { 0 }, image, verdict }
    };
    all.into_iter().map(forecast).collect()
}
