//! The direct way: a container of the base image, whose writable layer is filled with what was saved.
//!
//! Docker fetches nothing but the base, once per node, and unpacks nothing; what is woken is the base and one writable layer,
//! however often it was saved. The image must say on which base it stands, start containers as that base does, and the
//! node must have the base or get it from the registry; anything else is pulled.

use super::pull;
use crate::attempt::Attempt;
use crate::bases::Base;
use crate::halt::Halt;
use crate::snapshot::accept;
use crate::way::Way;
use mothball_domain::container::{Container, Source};
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::image::Digest;
use mothball_image::layer::Base as Below;
use mothball_image::restore::{RestorePlan, RestoreProgress, RestoreSettings, plan, restore};
use mothball_image::{BaseNote, ImageConfig, Manifest, same_settings};
use std::path::PathBuf;
use std::sync::Arc;

/// Room that must stay free on the node's disk when the layer is filled.
const DISK_MARGIN_BYTES: u64 = 256 << 20;

/// Why an image is pulled instead, as a clause.
pub(super) type Instead = String;

/// A saved image that can be restored.
pub(super) struct Restorable {
    repo: String,
    digest: Digest,
    plan: RestorePlan,
    base: Base,
}

impl Restorable {
    /// The image that the container is made of.
    pub(super) fn base_id(&self) -> String {
        self.base.id.to_string()
    }
}

/// Finds out whether the container's image can be restored, and brings its base. The inner error says why not.
pub(super) async fn find(
    attempt: &Attempt,
    container: &Container,
) -> Result<Result<Restorable, Instead>, Halt> {
    let Source::Custom { digest, reference, .. } = &container.launch.source else {
        return Ok(Err("it is no saved image".to_owned()));
    };
    let info = attempt.until_stopped(attempt.parts.engine.info()).await?;
    if let Some(why) = attempt.node.reach.closed_for_launches(&info) {
        return Ok(Err(why));
    }
    let host = format!("{}/", attempt.parts.registry.host());
    let Some((repo, _)) = reference.strip_prefix(&host).and_then(|rest| rest.split_once('@')) else {
        return Ok(Err("it lies in another registry".to_owned()));
    };
    // Whatever the registry says to us, Docker may have the image, or hear something else.
    let (manifest, config) = match attempt.until_stopped(read(attempt, repo, digest)).await {
        Err(Halt::Failed(failure)) => return Ok(Err(failure.message)),
        read => read?,
    };
    let Some(note) = BaseNote::of(&manifest) else {
        return Ok(Err("it does not say on which base it stands".to_owned()));
    };
    let base = match base(attempt, repo, &note).await? {
        Ok(base) => base,
        Err(why) => return Ok(Err(why)),
    };
    if !same_settings(&config, &base.config) {
        return Ok(Err("it starts containers otherwise than its base does".to_owned()));
    }
    let below = Below { image_id: base.id.to_string(), diff_ids: base.config.rootfs.diff_ids.clone() };
    let planned = plan(manifest.image()?, &config, &below);
    Ok(planned.map(|plan| Restorable { repo: repo.to_owned(), digest: digest.clone(), plan, base }))
}

async fn read(attempt: &Attempt, repo: &str, digest: &Digest) -> Result<(Manifest, ImageConfig), Halt> {
    let registry = &attempt.parts.registry;
    let manifest = registry.manifest(repo, digest.as_str()).await?.ok_or_else(|| {
        Failure::permanent(FailureClass::Gone, format!("the image {repo}@{digest} is gone from the registry"))
    })?;
    let config = registry.config(repo, &manifest).await?;
    Ok((manifest, config))
}

/// The base as the node has it, pulled from where the image lies if it has not.
async fn base(attempt: &Attempt, repo: &str, note: &BaseNote) -> Result<Result<Base, Instead>, Halt> {
    let engine = &attempt.parts.engine;
    let id = note.image_id.as_str();
    if engine.image(id).await?.is_none() {
        let Some(manifest) = &note.manifest else {
            return Ok(Err("its base is neither on the node nor in the registry".to_owned()));
        };
        let reference = format!("{}/{repo}@{manifest}", attempt.parts.registry.host());
        match pull::from_own_registry(attempt, &reference).await {
            Ok(pulled) if pulled.id == id => {}
            Ok(_) => return Ok(Err("what the registry has as its base is another image".to_owned())),
            Err(Halt::Failed(failure)) => return Ok(Err(format!("its base cannot be had: {failure}"))),
            Err(stopped) => return Err(stopped),
        }
    }
    Ok(attempt.node.base(id).ok_or_else(|| "its base's config cannot be read".to_owned()))
}

/// Fills the writable layer of a container that was just made. The inner error says why the image is to be pulled instead;
/// the container is then to be removed.
pub(super) async fn fill(
    attempt: &Attempt,
    docker_id: &str,
    image: &Restorable,
) -> Result<Result<(), Instead>, Halt> {
    let engine = &attempt.parts.engine;
    let Some(facts) = engine.inspect(docker_id).await? else {
        return Err(Failure::transient(
            FailureClass::Engine,
            "the container vanished while it was being filled",
        )
        .into());
    };
    let upper = match attempt.node.reach.of_container(&engine.info().await?, &facts) {
        Way::Direct(upper) => upper,
        Way::Engine(why) | Way::Closed(why) => return Ok(Err(why)),
    };
    let lower: Vec<PathBuf> = facts.lower_dirs.iter().map(PathBuf::from).collect();
    let room = attempt.node.disk_free_bytes().unwrap_or(u64::MAX).saturating_sub(DISK_MARGIN_BYTES);
    let settings = RestoreSettings::new(upper, lower, room);
    let progress = Arc::new(RestoreProgress::default());
    // Told to stop, it ends by itself: nothing writes into the layer any more when the container is removed.
    let filling = restore(
        &attempt.parts.registry,
        &image.repo,
        &image.plan,
        &settings,
        Arc::clone(&progress),
        attempt.stop.token(),
    );
    let filled = attempt.shown(|| progress.bytes(), filling).await;
    attempt.stop.check()?;
    match filled {
        Ok(restored) => {
            // What the layer holds is what the image holds: the first save sends only what changes from here on.
            accept(attempt, docker_id, &image.repo, &image.digest, &Arc::new(restored.index)).await;
            Ok(Ok(()))
        }
        Err(error) if error.may_be_pulled() => Ok(Err(error.to_string())),
        Err(error) => Err(error.failure().into()),
    }
}
