//! The way of Docker Engine: read by commit (here), upload and finish by push ([`push`]).
//!
//! Docker writes the container's run-time environment into what it commits, twice, and its push would carry that into the
//! registry. So values that the image itself does not have are blanked at the commit, and the commit is taken once more from
//! an empty container of it: what is pushed has never held them. Names and labels go when the config is written anew.

mod push;

pub(super) use push::to_registry;

use super::Request;
use super::preflight::Ready;
use crate::attempt::Attempt;
use crate::docker::{CommitRequest, CreateRequest, GpuRequest};
use crate::freeze::Freeze;
use crate::halt::Halt;
use mothball_domain::container::Container;
use mothball_domain::id::JobId;
use mothball_domain::image::Digest;
use mothball_domain::job::PauseMode;
use mothball_image::COMMIT_COMMENT;
use std::collections::BTreeMap;

/// The label of images that a job has made on the node.
pub(super) const JOB_LABEL: &str = "mothball.job";
/// The label of the empty container.
pub(super) const CARRIER_LABEL: &str = "mothball.carrier";

/// Saves a container that goes on running: frozen while Docker copies its layer, and no longer. The digest of the manifest.
pub(super) async fn keep(
    attempt: &mut Attempt,
    container: &Container,
    request: &Request,
    ready: &Ready,
    repo: &str,
) -> Result<Digest, Halt> {
    if !is_committed(attempt).await? {
        if request.pause == PauseMode::Never {
            attempt.note("The container was not frozen, as asked: files written during the save may be half written in the image.");
            attempt.checkpoint.committed = Some(commit(attempt, ready).await?);
        } else {
            let freeze = Freeze::begin(attempt, &ready.facts.id).await?;
            let checked = match commit(attempt, ready).await {
                Ok(image) => freeze.thaw_and_check(attempt).await.map(|()| image),
                Err(halt) => {
                    freeze.thaw(attempt).await;
                    Err(halt)
                }
            };
            attempt.save_unless_lost().await;
            attempt.checkpoint.committed = Some(checked?);
        }
        attempt.save().await?;
    }
    to_registry(attempt, repo, container, ready).await
}

/// Whether an earlier attempt of this job has committed the container, and the node still has the image.
async fn is_committed(attempt: &mut Attempt) -> Result<bool, Halt> {
    let Some(image) = attempt.checkpoint.committed.clone() else { return Ok(false) };
    let there = attempt.parts.engine.image(&image).await?.is_some();
    if !there {
        attempt.checkpoint.committed = None;
    }
    Ok(there)
}

/// Commits the container as it is now; the caller holds it frozen, where it is to be frozen, and writes the image down once
/// it is certain that it stayed so. One that is not written down is never used.
pub(super) async fn commit(attempt: &mut Attempt, ready: &Ready) -> Result<String, Halt> {
    // A commit that was not seen to its end may mix moments: it is never used again.
    super::leftovers::remove_images(attempt).await;
    let engine = attempt.parts.engine.clone();
    let job = attempt.job.id;
    let blanks = blanks(&ready.facts.env, ready.base.as_ref().and_then(|b| b.env.as_deref()));
    let labels = BTreeMap::from([(JOB_LABEL.to_owned(), job.to_string())]);
    let request = CommitRequest {
        container: ready.facts.id.clone(),
        labels: labels.clone(),
        env: blanks.clone(),
        comment: COMMIT_COMMENT.to_owned(),
        pause: false,
        ..CommitRequest::default()
    };
    let mut image = attempt.until_stopped(engine.commit(&request)).await?;
    attempt.parts.metrics.bytes_read.inc_by(ready.writable_bytes);
    if !blanks.is_empty() {
        image = take_once_more(attempt, &image, blanks, labels).await?;
    }
    Ok(image)
}

/// Environment of the container that its image does not have as it is: each name with an empty value.
fn blanks(container: &[String], image: Option<&[String]>) -> BTreeMap<String, String> {
    let own = image.unwrap_or_default();
    let others = container.iter().filter(|entry| !own.contains(entry));
    others
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, _)| (name.to_owned(), String::new()))
        .collect()
}

/// Commits an empty container of `image`, whose settings never held a secret.
async fn take_once_more(
    attempt: &Attempt,
    image: &str,
    env: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
) -> Result<String, Halt> {
    let engine = &attempt.parts.engine;
    let name = carrier(attempt.job.id);
    engine.remove(&name, true, true).await?;
    let request = CreateRequest {
        name: name.clone(),
        image: image.to_owned(),
        env: env.clone(),
        labels: BTreeMap::from([(CARRIER_LABEL.to_owned(), attempt.job.id.to_string())]),
        gpu_request: GpuRequest::None,
        network: Some("none".to_owned()),
        ..CreateRequest::default()
    };
    let taken = attempt
        .until_stopped(async {
            let carrier = engine.create(&request).await?;
            let request = CommitRequest {
                container: carrier.id,
                labels,
                env,
                comment: COMMIT_COMMENT.to_owned(),
                ..CommitRequest::default()
            };
            engine.commit(&request).await
        })
        .await;
    engine.remove(&name, true, true).await?;
    taken
}

/// The name of a job's empty container.
pub(super) fn carrier(job: JobId) -> String {
    format!("mothball-carrier-{job}")
}

#[cfg(test)]
mod tests {
    use super::blanks;

    #[test]
    fn what_the_image_itself_has_stays() {
        let container = ["PATH=/bin", "KEY=secret", "LANG=C", "EMPTY="].map(str::to_owned);
        let image = ["PATH=/bin", "LANG=en"].map(str::to_owned);
        let blanks = blanks(&container, Some(&image));
        let names: Vec<&str> = blanks.keys().map(String::as_str).collect();
        assert_eq!(names, ["EMPTY", "KEY", "LANG"]);
        assert!(blanks.values().all(String::is_empty));
    }
}
