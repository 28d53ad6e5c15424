//! The base image's layers, brought into the repository that the saved image goes to: found there, taken over from another
//! repository, or exported from Docker once and remembered.

mod cache;
mod export;

pub use cache::{BaseBlob, BaseCache};

use super::error::SaveError;
use super::pipeline::Upstream;
use crate::blob::BlobState;
use crate::error::RegistryError;
use crate::oci::{Descriptor, media};
use crate::upload::Mount;
use mothball_domain::image::Digest;
use serde_json::Map;
use std::collections::{BTreeSet, HashMap};
use std::io;
use tokio::io::AsyncRead;

/// How often an export begins again after the registry has lost an upload of it.
const REDOS_MAX: u32 = 2;

/// Where an image can be read that may have the base's layers: repository, and tag or digest.
pub type Place = (String, String);

/// Brings the base's layers, lowest first, into the repository; answers what a manifest says of them. Idempotent; what was
/// brought is remembered in `cache`, also when it fails later.
///
/// `places` are images of the registry that the base may have come from. `export` opens what `docker save` writes of the
/// base; it is called only for layers that are nowhere in the registry, and again when an upload was lost.
pub async fn base_layers<R, E, F>(
    to: &Upstream,
    diff_ids: &[Digest],
    cache: &BaseCache,
    places: &[Place],
    export: E,
) -> Result<Vec<Descriptor>, SaveError>
where
    R: AsyncRead + Unpin + Send + 'static,
    E: Fn() -> F,
    F: Future<Output = io::Result<R>>,
{
    for (repo, reference) in places {
        if diff_ids.iter().all(|id| !cache.blobs(to.registry.host(), id).is_empty()) {
            break;
        }
        learn(to, repo, reference, cache).await?;
    }
    let mut found: HashMap<Digest, Descriptor> = HashMap::new();
    for id in diff_ids {
        if !found.contains_key(id)
            && let Some(blob) = take_over(to, id, cache).await?
        {
            found.insert(id.clone(), blob);
        }
    }
    let mut missing: BTreeSet<Digest> =
        diff_ids.iter().filter(|id| !found.contains_key(id)).cloned().collect();
    let mut exporter = export::Exporter::default();
    let mut redos = 0;
    while !missing.is_empty() {
        let stream = export().await.map_err(|e| SaveError::io("have Docker export the base image", e))?;
        match exporter.run(to, stream, &mut missing, cache, &mut found).await {
            Err(error) if error.may_be_redone() && redos < REDOS_MAX => redos += 1,
            done => {
                done?;
                if !missing.is_empty() {
                    return Err(absent(&missing));
                }
            }
        }
    }
    let layers = diff_ids.iter().filter_map(|id| found.get(id).cloned()).collect();
    Ok(layers)
}

fn absent(missing: &BTreeSet<Digest>) -> SaveError {
    let first = missing.first().map_or_else(String::new, ToString::to_string);
    SaveError::Base(format!("Docker's export does not have {} of them, such as {first}", missing.len()))
}

/// Learns from an image of the registry which blobs its layers are. An image that is not there, or no image, teaches
/// nothing.
async fn learn(to: &Upstream, repo: &str, reference: &str, cache: &BaseCache) -> Result<(), SaveError> {
    let Some(manifest) = to.registry.manifest(repo, reference).await? else { return Ok(()) };
    let Ok(image) = manifest.image() else { return Ok(()) };
    let config = match to.registry.config(repo, &manifest).await {
        Ok(config) => config,
        Err(RegistryError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if config.rootfs.diff_ids.len() != image.layers.len() {
        return Ok(());
    }
    for (diff_id, layer) in config.rootfs.diff_ids.iter().zip(&image.layers) {
        // Layers that lie elsewhere by an address of their own are not blobs of this registry.
        if layer.extra.contains_key("urls") {
            continue;
        }
        cache.learn(
            to.registry.host(),
            BaseBlob {
                diff_id: diff_id.clone(),
                digest: layer.digest.clone(),
                size: layer.size,
                media_type: layer.media_type.clone(),
                repo: repo.to_owned(),
            },
        );
    }
    Ok(())
}

/// A layer that the registry has: in the repository already, or mounted from the one where it was seen.
async fn take_over(
    to: &Upstream,
    diff_id: &Digest,
    cache: &BaseCache,
) -> Result<Option<Descriptor>, SaveError> {
    for known in cache.blobs(to.registry.host(), diff_id) {
        if to.cancel.is_cancelled() {
            return Err(SaveError::Cancelled);
        }
        let blob = descriptor(&known);
        if bring(to, &blob, &known.repo).await? {
            cache.learn(to.registry.host(), BaseBlob { repo: to.repo.clone(), ..known });
            return Ok(Some(blob));
        }
        cache.forget(to.registry.host(), &known);
    }
    Ok(None)
}

/// Whether the repository has a blob, whole, after it was mounted from `from` if need be.
pub(super) async fn bring(to: &Upstream, blob: &Descriptor, from: &str) -> Result<bool, SaveError> {
    let whole = BlobState::Whole(blob.size);
    if to.registry.blob_state(&to.repo, blob).await? == whole {
        return Ok(true);
    }
    if from == to.repo {
        return Ok(false);
    }
    match to.registry.mount_blob(&to.repo, &blob.digest, from).await {
        Ok(Mount::Mounted) => Ok(to.registry.blob_state(&to.repo, blob).await? == whole),
        Ok(Mount::Upload(upload)) => {
            to.registry.cancel_upload(upload).await?;
            Ok(false)
        }
        // Whoever may not read there has it from elsewhere.
        Err(RegistryError::Auth { .. } | RegistryError::NotFound { .. } | RegistryError::Refused { .. }) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// What a manifest of ours says of a base's layer: an OCI manifest names OCI's types.
fn descriptor(blob: &BaseBlob) -> Descriptor {
    let media_type = match blob.media_type.as_str() {
        media::DOCKER_LAYER_GZIP => media::OCI_LAYER_GZIP.to_owned(),
        media::DOCKER_LAYER => media::OCI_LAYER.to_owned(),
        other => other.to_owned(),
    };
    Descriptor {
        media_type,
        digest: blob.digest.clone(),
        size: blob.size,
        annotations: None,
        extra: Map::new(),
    }
}
