//! The last way of content: what no tag names and nobody can restore is removed from the registry by a job, once nothing
//! needs it.
//!
//! Whoever gives a digest to a tag, and whoever is about to remove it from the registry, meet at one record, the one of
//! [`Leaving`]: it is there before anybody removes anything, it names the job that does, and a save of the same content
//! takes it away or, where that job is at work, waits.

use crate::db::Db;
use crate::db::tx::Tx;
use crate::ops::claim::held;
use crate::ops::need::{Content, Need, need};
use crate::ops::submit::{Submission, Submitted, Target, submit, unfinished};
use crate::ops::{after, records, transact, undo};
use crate::{Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::id::{Fence, JobId};
use mothball_domain::image::{Digest, Image, ImageRef, PreviousDigest};
use mothball_domain::job::{Job, JobSpec};
use mothball_domain::name::{ImageName, ProjectName};
use mothball_domain::undo::{DeletedImage, Leaving};
use std::time::Duration;

/// When content that a container needs, or that a job could not remove, is looked at again.
const LOOK_AGAIN: Duration = Duration::from_mins(10);

/// What whoever is about to remove content hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// Nothing needs it, and nobody comes to need it while the job lasts.
    Go,
    /// It stays.
    Needed(Need),
    /// It is not leaving any more: somebody saved it again.
    NotLeaving,
    /// The caller does not hold the job any more.
    Lost,
}

/// What became of content that is leaving.
#[derive(Debug, Clone, PartialEq)]
pub enum Purged {
    /// Nothing: it is gone, or a job is at work on it.
    Nothing,
    /// Something needs it.
    Needed(Box<Leaving>, Need),
    /// This job removes it.
    Started(Box<Leaving>, Box<Job>),
}

/// What a save finds of the content that it saved.
pub(crate) enum Reclaimed {
    /// It is the save's.
    Yes,
    /// This job removes it just now, or may have.
    No(JobId),
}

impl Store {
    /// Tags of which something is over its grace, most overdue first. Idempotent.
    pub async fn undo_due(&self, limit: usize) -> Result<Vec<(ProjectName, ImageRef)>, StoreError> {
        let members = self.db.due(keys::UNDO_DUE, limit).await?;
        let parse = |m: &String| {
            let (project, image) = m.split_once(' ')?;
            Some((ProjectName::new(project).ok()?, image.parse().ok()?))
        };
        Ok(members.iter().filter_map(parse).collect())
    }

    /// Takes what is over its grace from what can be restored of a tag, and lists it as leaving. Atomic, idempotent. How
    /// many digests it took.
    pub async fn expire_undo(&self, project: &ProjectName, image: &ImageRef) -> Result<usize, StoreError> {
        transact!(self, |tx| expire(tx, project, image).await)
    }

    /// Content that is leaving and must be looked at, most overdue first. Idempotent.
    pub async fn leaving_due(
        &self,
        limit: usize,
    ) -> Result<Vec<(ProjectName, ImageName, Digest)>, StoreError> {
        let members = self.db.due(keys::LEAVING, limit).await?;
        let parse = |m: &String| {
            let mut words = m.split(' ');
            let project = ProjectName::new(words.next()?).ok()?;
            Some((project, ImageName::new(words.next()?).ok()?, Digest::new(words.next()?).ok()?))
        };
        Ok(members.iter().filter_map(parse).collect())
    }

    /// Starts the job `id` that removes content which is leaving, unless something needs it. What a tag names or can be
    /// restored to is not leaving any more; what a container needs is looked at again. Atomic; of two at once, one starts it.
    pub async fn purge_content(
        &self,
        project: &ProjectName,
        name: &ImageName,
        digest: &Digest,
        id: JobId,
        max_attempts: u32,
    ) -> Result<Purged, StoreError> {
        let purged =
            transact!(self, |tx| purge(tx, &self.db, (project, name, digest), id, max_attempts).await);
        if let Ok(Purged::Started(_, job)) = &purged {
            self.count_submitted(job);
        }
        purged
    }

    /// Whether a job that deletes an image, or purges content, may remove that from the registry now. With [`Removal::Go`]
    /// no save comes to name it before the job is over. Idempotent.
    pub async fn remove_content(&self, id: JobId, fence: Fence) -> Result<Removal, StoreError> {
        // In two steps: the record must be there before anybody looks who needs the content.
        let listed: Result<bool, StoreError> = transact!(self, |tx| list_as_leaving(tx, id, fence).await);
        if !listed? {
            return Ok(Removal::Lost);
        }
        transact!(self, |tx| remove(tx, &self.db, id, fence).await)
    }
}

/// Lists content of an image's tag as leaving. What is listed already stays so, with the job that may be at work on it.
pub(crate) async fn leave_content(
    tx: &mut Tx<'_>,
    of: &Image,
    content: &PreviousDigest,
) -> Result<(), StoreError> {
    let user = content.saved.as_ref().map_or(&of.created_by, |saved| &saved.created_by);
    let leaving = Leaving {
        project: of.project.clone(),
        image: of.image.clone(),
        digest: content.digest.clone(),
        size_bytes: content.size_bytes,
        user: user.clone(),
        job: None,
    };
    let now = tx.now().await?;
    list(tx, leaving, now).await
}

async fn list(tx: &mut Tx<'_>, leaving: Leaving, due: Timestamp) -> Result<(), StoreError> {
    let key = keys::leaving(&leaving.project, &leaving.image.name, &leaving.digest);
    let found: Option<Leaving> = tx.get(&key).await?;
    put(tx, &found.unwrap_or(leaving), due)
}

fn put(tx: &mut Tx<'_>, leaving: &Leaving, due: Timestamp) -> Result<(), StoreError> {
    let member = keys::leaving_member(&leaving.project, &leaving.image.name, &leaving.digest);
    tx.add(keys::LEAVING, member, due.as_millisecond());
    tx.put(&keys::leaving(&leaving.project, &leaving.image.name, &leaving.digest), leaving)
}

fn unlist(tx: &mut Tx<'_>, (project, name, digest): Content<'_>) {
    tx.remove(keys::LEAVING, keys::leaving_member(project, name, digest));
    tx.delete(&keys::leaving(project, name, digest));
}

/// Makes content that was saved again a tag's, where no job is about to remove it.
pub(crate) async fn reclaim(
    tx: &mut Tx<'_>,
    project: &ProjectName,
    name: &ImageName,
    digest: &Digest,
) -> Result<Reclaimed, StoreError> {
    let found: Option<Leaving> = tx.get(&keys::leaving(project, name, digest)).await?;
    let Some(mut leaving) = found else { return Ok(Reclaimed::Yes) };
    let Some(job) = leaving.job else {
        unlist(tx, (project, name, digest));
        return Ok(Reclaimed::Yes);
    };
    if unfinished(tx, job).await?.is_none() {
        // It failed, and may have removed the content before that and after the save's proof: another proof is needed.
        leaving.job = None;
        let now = tx.now().await?;
        put(tx, &leaving, after(now, LOOK_AGAIN))?;
    }
    Ok(Reclaimed::No(job))
}

/// The content that a job has removed is gone for good. Where it stays after all, it is looked at again.
pub(crate) async fn settled(tx: &mut Tx<'_>, job: &Job, is_gone: bool) -> Result<(), StoreError> {
    let Some((image, digest)) = content_of(&job.spec) else { return Ok(()) };
    let found: Option<Leaving> = tx.get(&keys::leaving(&job.project, &image.name, digest)).await?;
    let Some(mut leaving) = found else { return Ok(()) };
    if leaving.job == Some(job.id) && is_gone {
        unlist(tx, (&job.project, &image.name, digest));
    } else if leaving.job == Some(job.id) {
        leaving.job = None;
        let now = tx.now().await?;
        put(tx, &leaving, after(now, LOOK_AGAIN))?;
    }
    Ok(())
}

/// The content that a job is to remove.
fn content_of(spec: &JobSpec) -> Option<(&ImageRef, &Digest)> {
    match spec {
        JobSpec::DeleteImage { image, digest } | JobSpec::PurgeImage { image, digest } => {
            Some((image, digest))
        }
        _ => None,
    }
}

async fn expire(tx: &mut Tx<'_>, project: &ProjectName, image: &ImageRef) -> Result<usize, StoreError> {
    tx.load(&[keys::image(project, image), keys::deleted_image(project, image)]).await?;
    let now = tx.now().await?;
    if let Some(deleted) = tx.get::<DeletedImage>(&keys::deleted_image(project, image)).await? {
        if !deleted.is_restorable(now) {
            records::remove_deleted_image(tx, &deleted.image);
            undo::forget(tx, &deleted).await?;
            return Ok(1 + deleted.image.previous.len());
        }
        let mut deleted = deleted;
        let taken = take_expired(tx, &mut deleted.image, now).await?;
        records::put_deleted_image(tx, &deleted)?;
        return Ok(taken);
    }
    let Some(mut found) = tx.get::<Image>(&keys::image(project, image)).await? else {
        tx.remove(keys::UNDO_DUE, keys::undo_member(project, image));
        tx.remove(keys::undo_of_project(project), image.to_string());
        return Ok(0);
    };
    let taken = take_expired(tx, &mut found, now).await?;
    records::put_image(tx, &found)?;
    Ok(taken)
}

async fn take_expired(tx: &mut Tx<'_>, image: &mut Image, now: Timestamp) -> Result<usize, StoreError> {
    let (kept, expired): (Vec<_>, Vec<_>) =
        std::mem::take(&mut image.previous).into_iter().partition(|p| p.is_restorable(now));
    image.previous = kept;
    for content in &expired {
        leave_content(tx, image, content).await?;
    }
    Ok(expired.len())
}

async fn purge(
    tx: &mut Tx<'_>,
    db: &Db,
    content: Content<'_>,
    id: JobId,
    max_attempts: u32,
) -> Result<Purged, StoreError> {
    let (project, name, digest) = content;
    let Some(mut leaving) = tx.get::<Leaving>(&keys::leaving(project, name, digest)).await? else {
        unlist(tx, content);
        return Ok(Purged::Nothing);
    };
    let now = tx.now().await?;
    let again = after(now, LOOK_AGAIN);
    if let Some(job) = leaving.job
        && unfinished(tx, job).await?.is_some()
    {
        put(tx, &leaving, again)?;
        return Ok(Purged::Nothing);
    }
    leaving.job = None;
    if let Some(need) = need(tx, db, content, None).await? {
        if matches!(need, Need::Container(_)) {
            put(tx, &leaving, again)?;
        } else {
            // It is listed anew when that lets go of it.
            unlist(tx, content);
        }
        return Ok(Purged::Needed(Box::new(leaving), need));
    }
    let submission = Submission {
        id,
        spec: JobSpec::PurgeImage { image: leaving.image.clone(), digest: digest.clone() },
        user: leaving.user.clone(),
        project: project.clone(),
        target: Target::Image,
        schedule: None,
        idempotency: None,
        max_attempts,
        alive_within: Duration::ZERO,
    };
    match submit(tx, &submission).await? {
        Submitted::New(job) | Submitted::Replayed(job) => {
            leaving.job = Some(job.id);
            put(tx, &leaving, again)?;
            Ok(Purged::Started(Box::new(leaving), job))
        }
        other => Err(StoreError::Corrupt(format!("a purge was refused: {other:?}"))),
    }
}

/// Makes sure that the content of an image that is being deleted is listed, and that the caller holds the job.
async fn list_as_leaving(tx: &mut Tx<'_>, id: JobId, fence: Fence) -> Result<bool, StoreError> {
    let Some(job) = held(tx, id, fence).await? else { return Ok(false) };
    if let JobSpec::DeleteImage { image, digest } = &job.spec {
        let leaving = Leaving {
            project: job.project.clone(),
            image: image.clone(),
            digest: digest.clone(),
            size_bytes: 0,
            user: job.user.clone(),
            job: None,
        };
        let now = tx.now().await?;
        // Not for a scheduler yet, which would find that the tag still names it: that goes with the job's success.
        list(tx, leaving, after(now, LOOK_AGAIN)).await?;
    }
    Ok(true)
}

async fn remove(tx: &mut Tx<'_>, db: &Db, id: JobId, fence: Fence) -> Result<Removal, StoreError> {
    let Some(job) = held(tx, id, fence).await? else { return Ok(Removal::Lost) };
    let Some((image, digest)) = content_of(&job.spec) else { return Ok(Removal::NotLeaving) };
    // Before anybody looks who needs it: whoever saves it from here on changes this record.
    let found: Option<Leaving> = tx.get(&keys::leaving(&job.project, &image.name, digest)).await?;
    let Some(mut leaving) = found else { return Ok(Removal::NotLeaving) };
    if let Some(other) = leaving.job.filter(|other| *other != id)
        && unfinished(tx, other).await?.is_some()
    {
        return Ok(Removal::Needed(Need::Job(other)));
    }
    let except = matches!(job.spec, JobSpec::DeleteImage { .. }).then_some(image);
    let need = need(tx, db, (&job.project, &image.name, digest), except).await?;
    leaving.job = need.is_none().then_some(id);
    let now = tx.now().await?;
    put(tx, &leaving, after(now, LOOK_AGAIN))?;
    Ok(need.map_or(Removal::Go, Removal::Needed))
}
