//! The base of a direct save: its config as it was kept, its layers in the registry, and a manifest of its own there, so that
//! a node that has never seen the base can have it and nothing else.

use super::Places;
use crate::attempt::Attempt;
use crate::bases::Base;
use crate::docker::ContainerFacts;
use crate::halt::Halt;
use mothball_domain::container::{Container, Source};
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::image::{Digest, hidden_tag};
use mothball_image::oci::{digest_of, media};
use mothball_image::save::{Upstream, base_layers};
use mothball_image::{BaseNote, Descriptor, ImageManifest};
use std::io;
use tokio::sync::OnceCell;

/// Room that must stay free on the node's disk while Docker lays the base out on it.
const DISK_MARGIN_BYTES: u64 = 256 << 20;

/// The base of a save.
pub(super) struct SaveBase {
    /// The image.
    pub(super) image: Base,
    brought: OnceCell<Brought>,
}

/// A base that is in the registry.
pub(super) struct Brought {
    /// Its layers there, lowest first.
    pub(super) layers: Vec<Descriptor>,
    /// What the saved image's manifest says of it.
    pub(super) note: BaseNote,
}

impl SaveBase {
    pub(super) fn of(image: Base) -> Self {
        Self { image, brought: OnceCell::new() }
    }

    /// The base in the repository, brought there first where that has not been done.
    pub(super) async fn brought(
        &self,
        attempt: &Attempt,
        container: &Container,
        facts: &ContainerFacts,
        to: &Upstream,
    ) -> Result<&Brought, Halt> {
        self.brought.get_or_try_init(|| bring(attempt, container, facts, &self.image, to)).await
    }
}

async fn bring(
    attempt: &Attempt,
    container: &Container,
    facts: &ContainerFacts,
    base: &Base,
    to: &Upstream,
) -> Result<Brought, Halt> {
    let engine = attempt.parts.engine.clone();
    let diff_ids = &base.config.rootfs.diff_ids;
    let room = attempt.node.disk_free_bytes();
    let image = facts.image_id.clone();
    let export = || {
        let (engine, image) = (engine.clone(), image.clone());
        async move {
            let size =
                engine.image(&image).await.map_err(io::Error::other)?.map_or(0, |image| image.size_bytes);
            if room.is_some_and(|free| free < size + DISK_MARGIN_BYTES) {
                return Err(io::Error::new(
                    io::ErrorKind::StorageFull,
                    format!("Docker needs {} MB of the node's disk to export the base image", size >> 20),
                ));
            }
            engine.export_image(&image).await.map_err(io::Error::other)
        }
    };
    let places = places(attempt, container);
    let layers = base_layers(to, diff_ids, &attempt.node.base_cache, &places, export).await;
    let layers = layers.map_err(|e| super::halt(attempt, &e))?;
    let manifest = manifest(base, &layers)?;
    attempt.until_stopped(put(to, base, &manifest)).await?;
    let name = container.launch.source.display_name();
    let note = BaseNote { image_id: base.id.clone(), manifest: Some(manifest.digest), name: Some(name) };
    Ok(Brought { layers, note })
}

/// Images of our registry that the base may be.
fn places(attempt: &Attempt, container: &Container) -> Places {
    let host = format!("{}/", attempt.parts.registry.host());
    let Some(rest) = container.launch.source.reference().strip_prefix(&host) else { return Places::new() };
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    let split = rest.split_once('@').or_else(|| {
        let colon = last + rest[last..].find(':')?;
        Some((&rest[..colon], &rest[colon + 1..]))
    });
    let (repo, reference) = split.unwrap_or((rest, "latest"));
    // A saved image that the container was filled with holds the base's layers, too.
    let known = matches!(container.launch.source, Source::Custom { .. } | Source::Catalog { .. });
    if known { vec![(repo.to_owned(), reference.to_owned())] } else { Places::new() }
}

/// A manifest that is made and not yet in the registry.
struct Made {
    bytes: Vec<u8>,
    digest: Digest,
}

/// The base as an image of its own: its very config, so that it has its very id.
fn manifest(base: &Base, layers: &[Descriptor]) -> Result<Made, Halt> {
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.to_owned()),
        config: Descriptor::of(media::OCI_CONFIG, &base.raw),
        layers: layers.to_vec(),
        annotations: None,
        extra: serde_json::Map::new(),
    };
    let bytes = serde_json::to_vec(&manifest)
        .map_err(|e| Failure::permanent(FailureClass::Internal, format!("the base's manifest: {e}")))?;
    Ok(Made { digest: digest_of(&bytes), bytes })
}

/// Puts the base's manifest, kept alive by a tag of our own.
async fn put(to: &Upstream, base: &Base, manifest: &Made) -> Result<(), Halt> {
    let (registry, repo) = (&to.registry, to.repo.as_str());
    let tag = hidden_tag(&manifest.digest);
    if registry.manifest_digest(repo, tag.as_str()).await?.as_ref() == Some(&manifest.digest) {
        return Ok(());
    }
    registry.put_blob(repo, &base.id, base.raw.clone()).await?;
    registry.put_manifest(repo, tag.as_str(), media::OCI_MANIFEST, manifest.bytes.clone()).await?;
    Ok(())
}
