//! From the domain's records to JSON.

use super::views;
use crate::app::App;
use crate::v1::views::Problem;
use jiff::Timestamp;
use mothball_domain::container::{Container, Source};
use mothball_domain::id::ContainerId;
use mothball_domain::image::Image;
use mothball_domain::job::{Job, JobSpec};
use mothball_domain::people::{ApiKey, AuditEntry};
use mothball_domain::state::JobState;
use mothball_domain::usage::Look;
use mothball_store::Restorable;
use std::collections::BTreeMap;

/// A job.
pub(crate) async fn job(app: &App, job: &Job) -> Result<views::Job, Problem> {
    let container = match job.container {
        Some(id) => app.parts.store.container(id).await?,
        None => None,
    };
    Ok(job_with(job, container.as_ref()))
}

/// Jobs; each container is read once.
pub(crate) async fn jobs(app: &App, jobs: &[Job]) -> Result<Vec<views::Job>, Problem> {
    let mut known: BTreeMap<ContainerId, Option<Container>> = BTreeMap::new();
    let mut shown = Vec::with_capacity(jobs.len());
    for job in jobs {
        if let Some(id) = job.container
            && !known.contains_key(&id)
        {
            known.insert(id, app.parts.store.container(id).await?);
        }
        let container = job.container.and_then(|id| known.get(&id)).and_then(Option::as_ref);
        shown.push(job_with(job, container));
    }
    Ok(shown)
}

fn job_with(job: &Job, container: Option<&Container>) -> views::Job {
    // A manifest that is not proven yet is nobody's to rely on.
    let proven = job.checkpoint.verified || job.state == JobState::Succeeded;
    let digest = match &job.spec {
        JobSpec::DeleteImage { digest, .. }
        | JobSpec::RestoreImage { digest, .. }
        | JobSpec::PurgeImage { digest, .. } => Some(digest.to_string()),
        JobSpec::Snapshot { .. } if proven => job.checkpoint.manifest.as_ref().map(ToString::to_string),
        JobSpec::Launch => container.and_then(|c| launched_digest(job, c)),
        _ => None,
    };
    let (then, excludes) = match &job.spec {
        JobSpec::Snapshot { then, excludes, .. } => (Some(*then), excludes.as_slice()),
        _ => (None, [].as_slice()),
    };
    let progress = job.progress.unwrap_or_default();
    views::Job {
        id: job.id,
        kind: job.kind(),
        state: job.state,
        step: job.step.map(|step| step.to_string()),
        attempt: job.attempt,
        max_attempts: job.max_attempts,
        container: job.container,
        container_name: container.map(|c| c.name.to_string()),
        image: job.image.clone(),
        tag: job.image.as_deref().and_then(tag_of),
        digest,
        size_bytes: job.checkpoint.size_bytes,
        node: job.node.as_ref().map(ToString::to_string),
        project: job.project.to_string(),
        user: job.user.to_string(),
        created_at: job.created_at,
        started_at: job.started_at,
        finished_at: job.finished_at,
        next_attempt_at: job.next_attempt_at,
        progress: views::JobProgress {
            bytes_done: progress.bytes_done,
            bytes_total: progress.bytes_total,
            bytes_per_second: progress.bytes_per_second,
            eta_seconds: progress.eta_seconds,
        },
        error: job.error.as_ref().map(|e| views::JobError {
            class: e.class,
            message: e.message.clone(),
            hint: e.hint.clone(),
        }),
        events: job
            .events
            .iter()
            .map(|e| views::JobEvent { at: e.at, event: e.event.clone(), detail: e.detail.clone() })
            .collect(),
        waiting_for: job.waiting_for.clone(),
        notes: job.notes.clone(),
        cancel_requested: job.cancel_requested,
        schedule: job.schedule,
        then,
        excludes: excludes.iter().map(ToString::to_string).collect(),
    }
}

/// The tag of `name:tag`; an adopted container's image may be any reference, where a port is no tag.
fn tag_of(image: &str) -> Option<String> {
    image.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/')).map(str::to_owned)
}

fn launched_digest(job: &Job, container: &Container) -> Option<String> {
    match &container.launch.source {
        Source::Custom { image, digest, .. } if job.image.as_deref() == Some(image.to_string().as_str()) => {
            Some(digest.to_string())
        }
        _ => None,
    }
}

/// A container, as it stands at `now`.
pub(crate) fn container(container: &Container, now: Timestamp, currency: &str) -> views::Container {
    let usage = container.usage(now);
    views::Container {
        id: container.id,
        name: container.name.to_string(),
        state: container.state,
        image: container.launch.source.display_name(),
        image_name: container.image_name.to_string(),
        flavor: container.launch.flavor.name.to_string(),
        gpus: container.gpus.clone(),
        writable_bytes: container.writable_bytes,
        node: container.node.as_ref().map(ToString::to_string),
        project: container.project.to_string(),
        user: container.user.to_string(),
        ports: container
            .ports
            .iter()
            .map(|p| views::ContainerPort { target: p.target, published: p.published })
            .collect(),
        mounts: container
            .launch
            .mounts
            .iter()
            .map(|m| views::ContainerMount { target: m.target.clone() })
            .collect(),
        protected: container.protected,
        created_at: container.created_at,
        cost: views::Cost {
            per_hour: container.launch.flavor.price_per_hour.to_string(),
            now_per_hour: container.cost_per_hour_now().to_string(),
            so_far: usage.cost().to_string(),
            avoided: usage.avoided().to_string(),
            seconds: usage.seconds().to_string(),
            currency: currency.to_owned(),
        },
        description: container.description.clone(),
        labels: container.labels.as_map().clone(),
        keep_until: container.keep_until,
        job: container.job,
        docker_id: container.docker_id.clone(),
        parked_image: container.parked_image.as_ref().map(ToString::to_string),
        reason: container.reason.clone(),
        adopted: container.adopted,
        usage: None,
        warning: None,
    }
}

/// The same containers, with what they use as their nodes saw last, and what they were warned of.
pub(crate) async fn with_looks(
    app: &App,
    mut containers: Vec<views::Container>,
) -> Result<Vec<views::Container>, Problem> {
    let ids: Vec<ContainerId> = containers.iter().map(|c| c.id).collect();
    let mut looks = app.parts.store.usage(&ids).await?;
    let mut warnings = app.parts.store.warnings(&ids).await?;
    for container in &mut containers {
        container.warning = warnings.remove(&container.id).map(Into::into);
        container.usage = looks.remove(&container.id).map(usage);
    }
    Ok(containers)
}

fn usage(look: Look) -> views::Usage {
    views::Usage {
        at: look.at,
        cpu_cores: look.used.cpu_cores,
        network_bytes_per_second: look.used.network_bytes_per_second,
        gpu_utilization: look.used.gpu,
        terminals: look.used.terminals,
        idle_seconds: look.idle.idle_for().as_secs(),
        idle_rule: look.rule.to_string(),
        last_activity: look.idle.last_activity,
    }
}

/// An image.
pub(crate) fn image(image: &Image) -> views::Image {
    views::Image {
        name: image.image.name.to_string(),
        tag: image.image.tag.to_string(),
        digest: image.digest.to_string(),
        size_bytes: image.size_bytes,
        created_by: image.created_by.to_string(),
        created_at: image.created_at,
        updated_at: image.updated_at,
        last_used_at: image.last_used_at,
        source_container: image.source_container,
        layers: image.layers,
        pinned: image.pinned,
        reference: image.reference.clone(),
        project: image.project.to_string(),
        base: image.base.clone(),
        job: Some(image.job),
        previous: image
            .previous
            .iter()
            .map(|p| views::OverwrittenImage {
                digest: p.digest.to_string(),
                size_bytes: p.size_bytes,
                replaced_at: p.replaced_at,
                restorable_until: p.until,
            })
            .collect(),
        removal: None,
        deleted_at: None,
        deleted_by: None,
        deleted_because: None,
        restorable_until: None,
    }
}

/// A tag of which something can be restored.
pub(crate) fn restorable(found: Restorable) -> views::Image {
    match found {
        Restorable::Overwritten(found) => image(&found),
        Restorable::Deleted(deleted) => views::Image {
            deleted_at: Some(deleted.deleted_at),
            deleted_by: Some(deleted.by.to_string()),
            deleted_because: Some(deleted.why.as_str().to_owned()),
            restorable_until: Some(deleted.until),
            ..image(&deleted.image)
        },
    }
}

/// A key, without its secret.
pub(crate) fn key(key: ApiKey) -> views::Key {
    views::Key {
        id: key.id,
        user: key.user.to_string(),
        label: key.label,
        created_at: key.created_at,
        expires_at: key.expires_at,
    }
}

/// A line of the audit trail.
pub(crate) fn entry(entry: AuditEntry) -> views::AuditEntry {
    views::AuditEntry {
        at: entry.at,
        user: entry.user.to_string(),
        project: entry.project.map(|p| p.to_string()),
        action: entry.action,
        subject: entry.subject,
        detail: entry.detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_what_follows_the_last_colon_unless_that_is_a_port() {
        assert_eq!(tag_of("tensorrt:dup1").as_deref(), Some("dup1"));
        assert_eq!(tag_of("host:5000/a"), None);
        assert_eq!(tag_of("plain"), None);
    }
}
