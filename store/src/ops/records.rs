//! Writing a record together with the indexes that list it: the one place that knows which.

use crate::StoreError;
use crate::db::tx::Tx;
use crate::keys;
use jiff::Timestamp;
use mothball_domain::billing::{Sheet, Usage};
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::image::Image;
use mothball_domain::job::{Job, JobSpec};
use mothball_domain::name::NodeName;
use mothball_domain::node::Reservations;
use mothball_domain::state::JobState;
use mothball_domain::undo::DeletedImage;
use std::collections::BTreeMap;

/// Reads a job.
pub(crate) async fn job(tx: &mut Tx<'_>, id: JobId) -> Result<Option<Job>, StoreError> {
    tx.get(&keys::job(id)).await
}

/// Reads a container.
pub(crate) async fn container(tx: &mut Tx<'_>, id: ContainerId) -> Result<Option<Container>, StoreError> {
    tx.get(&keys::container(id)).await
}

/// Writes a job, and moves its index entries from where `before` had them. `due` is when the scheduler must look
/// at it; a job that is over has no due time.
pub(crate) fn put_job(
    tx: &mut Tx<'_>,
    before: Option<&Job>,
    job: &Job,
    due: Timestamp,
) -> Result<(), StoreError> {
    let member = job.id.to_string();
    if before.is_none() {
        tx.add(keys::JOBS, &member, 0);
        tx.add(keys::jobs_of_user(&job.user), &member, 0);
        tx.add(keys::jobs_of_project(&job.project), &member, 0);
    }
    if let Some(before) = before.filter(|b| b.state != job.state) {
        tx.remove(keys::jobs_in_state(before.kind(), before.state), &member);
    }
    tx.add(keys::jobs_in_state(job.kind(), job.state), &member, 0);

    if job.state.is_final() {
        tx.remove(keys::DUE, &member);
        let finished_ms = job.finished_at.unwrap_or(due).as_millisecond();
        tx.add(keys::FINISHED, &member, finished_ms);
    } else {
        tx.add(keys::DUE, &member, due.as_millisecond());
        tx.remove(keys::FINISHED, &member);
    }
    if let JobSpec::Snapshot { image, .. } = &job.spec {
        let index = keys::saving_of_project(&job.project);
        if job.state.is_final() {
            tx.remove(index, image.to_string());
        } else {
            tx.add(index, image.to_string(), 0);
        }
    }
    let waits = matches!(job.state, JobState::Queued | JobState::Retrying);
    if job.spec == JobSpec::Launch && job.node.is_none() && waits {
        tx.add(keys::WAITING, &member, 0);
    } else {
        tx.remove(keys::WAITING, &member);
    }
    let (was, is) = (before.and_then(concerns), concerns(job));
    if let Some(node) = was.filter(|n| Some(n) != is.as_ref()) {
        tx.remove(keys::jobs_on_node(&node), &member);
    }
    if let Some(node) = is {
        tx.add(keys::jobs_on_node(&node), &member, 0);
    }
    tx.put(&keys::job(job.id), job)
}

/// The node whose worker an unfinished job waits for or is held by.
fn concerns(job: &Job) -> Option<NodeName> {
    let node = job.lease.as_ref().map(|lease| &lease.node).or(job.node.as_ref());
    node.filter(|_| !job.state.is_final()).cloned()
}

/// Takes a job that is over and all its index entries away.
pub(crate) fn remove_job(tx: &mut Tx<'_>, job: &Job) {
    let member = job.id.to_string();
    for index in [
        keys::JOBS.to_owned(),
        keys::FINISHED.to_owned(),
        keys::jobs_of_user(&job.user),
        keys::jobs_of_project(&job.project),
        keys::jobs_in_state(job.kind(), job.state),
    ] {
        tx.remove(index, &member);
    }
    tx.delete(&keys::job(job.id));
}

/// Writes a container, moves its index entries, and frees its name when it is gone.
pub(crate) fn put_container(
    tx: &mut Tx<'_>,
    before: Option<&Container>,
    container: &Container,
) -> Result<(), StoreError> {
    let member = keys::container_member(container.id);
    if before.is_none() {
        tx.add(keys::CONTAINERS_ALL, &member, 0);
    }
    if let Some(before) = before.filter(|b| b.state != container.state) {
        tx.remove(keys::containers_in_state(before.state), &member);
    }
    tx.add(keys::containers_in_state(container.state), &member, 0);

    let of_project = keys::containers_of_project(&container.project);
    let name = keys::container_name(&container.project, &container.name);
    put_sheets(tx, before, container)?;
    if container.is_gone() {
        let gone_ms = tx.read_at().as_millisecond();
        tx.add(keys::CONTAINERS_GONE, &member, gone_ms);
        tx.remove(keys::CONTAINERS, &member);
        tx.remove(of_project, &member);
        if before.is_some_and(|b| !b.is_gone()) {
            tx.delete(&name);
        }
    } else {
        tx.add(keys::CONTAINERS, &member, 0);
        tx.add(of_project, &member, 0);
        tx.put(&name, &container.id)?;
    }
    let on_node = |c: &Container| {
        let gone = matches!(c.state, ContainerState::Deleted | ContainerState::Parked);
        c.node.clone().filter(|_| !gone)
    };
    let (was, is) = (before.and_then(on_node), on_node(container));
    if let Some(node) = was.filter(|n| Some(n) != is.as_ref()) {
        tx.remove(keys::containers_on_node(&node), &member);
    }
    if let Some(node) = is {
        tx.add(keys::containers_on_node(&node), &member, 0);
    }
    tx.put(&keys::container(container.id), container)
}

/// Writes the sheets of the ledger that are not as `before` had them.
fn put_sheets(tx: &mut Tx<'_>, before: Option<&Container>, container: &Container) -> Result<(), StoreError> {
    if before.is_some_and(|before| before.metered == container.metered) {
        return Ok(());
    }
    let written: BTreeMap<u32, Sheet> = before.map(|before| before.sheets().collect()).unwrap_or_default();
    for (number, sheet) in container.sheets().filter(|(number, sheet)| written.get(number) != Some(sheet)) {
        put_sheet(tx, number, &sheet)?;
    }
    Ok(())
}

/// Writes a sheet of the ledger with its index entries.
pub(crate) fn put_sheet(tx: &mut Tx<'_>, number: u32, sheet: &Sheet) -> Result<(), StoreError> {
    let member = keys::sheet_member(sheet.container, number);
    let ended = sheet.ended_at().map_or(keys::OPEN, Timestamp::as_millisecond);
    tx.add(keys::LEDGER, &member, ended);
    tx.add(keys::ledger_of_project(&sheet.project), &member, ended);
    tx.put(&keys::sheet(&member), sheet)
}

/// Adds what a container that is deleted has come to to its project's total.
pub(crate) async fn note_used(tx: &mut Tx<'_>, container: &Container) -> Result<(), StoreError> {
    let key = keys::used_by_deleted(&container.project);
    let mut used: Usage = tx.get(&key).await?.unwrap_or_default();
    used += container.usage(tx.now().await?);
    tx.put(&key, &used)
}

/// Writes an image with its index entries.
pub(crate) fn put_image(tx: &mut Tx<'_>, image: &Image) -> Result<(), StoreError> {
    let member = image.image.to_string();
    tx.add(keys::images_of_project(&image.project), &member, 0);
    tx.add(keys::images_of_name(&image.project, &image.image.name), &member, 0);
    list_restorable(tx, image, image.previous.iter().map(|p| p.until));
    tx.put(&keys::image(&image.project, &image.image), image)
}

/// Takes an image's record and index entries away, and the notice of its removal with it.
pub(crate) fn remove_image(tx: &mut Tx<'_>, image: &Image) {
    let member = image.image.to_string();
    tx.remove(keys::images_of_project(&image.project), &member);
    tx.remove(keys::images_of_name(&image.project, &image.image.name), &member);
    list_restorable(tx, image, std::iter::empty());
    tx.delete(&keys::removal_notice(&image.project, &image.image));
    tx.delete(&keys::image(&image.project, &image.image));
}

/// Writes an image that was deleted and can be restored, with its index entries.
pub(crate) fn put_deleted_image(tx: &mut Tx<'_>, deleted: &DeletedImage) -> Result<(), StoreError> {
    let image = &deleted.image;
    tx.add(keys::deleted_of_name(&image.project, &image.image.name), image.image.to_string(), 0);
    let untils = image.previous.iter().map(|p| p.until).chain([Some(deleted.until)]);
    list_restorable(tx, image, untils);
    tx.put(&keys::deleted_image(&image.project, &image.image), deleted)
}

/// Takes the record and the index entries of a deleted image away.
pub(crate) fn remove_deleted_image(tx: &mut Tx<'_>, image: &Image) {
    tx.remove(keys::deleted_of_name(&image.project, &image.image.name), image.image.to_string());
    list_restorable(tx, image, std::iter::empty());
    tx.delete(&keys::deleted_image(&image.project, &image.image));
}

/// Lists a tag by what can be restored of it: each until then, or for ever.
fn list_restorable(tx: &mut Tx<'_>, image: &Image, untils: impl Iterator<Item = Option<Timestamp>>) {
    let untils: Vec<Option<Timestamp>> = untils.collect();
    let (index, member) = (keys::undo_of_project(&image.project), image.image.to_string());
    if untils.is_empty() {
        tx.remove(index, member);
    } else {
        tx.add(index, member, 0);
    }
    let due = keys::undo_member(&image.project, &image.image);
    match untils.into_iter().flatten().min() {
        Some(first) => tx.add(keys::UNDO_DUE, due, first.as_millisecond()),
        None => tx.remove(keys::UNDO_DUE, due),
    }
}

/// Gives back a container's place and GPUs, and has the scheduler look at once at those that wait for room.
pub(crate) async fn release_place(tx: &mut Tx<'_>, container: &mut Container) -> Result<(), StoreError> {
    container.gpus.clear();
    if let Some(node) = &container.node {
        let key = keys::reservations(node);
        let mut reservations: Reservations = tx.get(&key).await?.unwrap_or_default();
        if reservations.held.remove(&container.id).is_some() {
            tx.put(&key, &reservations)?;
        }
    }
    wake_waiting(tx).await
}

/// Has the scheduler look now at launches that wait for room.
pub(crate) async fn wake_waiting(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    /// The others come with their own due times.
    const WOKEN_MAX: usize = 100;
    let now = tx.now().await?;
    let releases: u64 = tx.get(keys::RELEASES).await?.unwrap_or(0);
    tx.put(keys::RELEASES, &releases.wrapping_add(1))?;
    for member in tx.scan(keys::WAITING, WOKEN_MAX).await? {
        // Moved, not added: one that has ended since the scan has no due time any more.
        tx.shift(keys::DUE, member, now.as_millisecond());
    }
    Ok(())
}

/// Lets go of the container and the image reference that an ended job kept to itself.
pub(crate) async fn release_uniqueness(tx: &mut Tx<'_>, job: &Job) -> Result<(), StoreError> {
    if let Some(image) = job.spec.image() {
        let key = keys::image_job(&job.project, image);
        if tx.get::<JobId>(&key).await? == Some(job.id) {
            tx.delete(&key);
        }
    }
    Ok(())
}
