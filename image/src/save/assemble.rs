//! The saved image: the base's own config, the base's layers and ours, and a manifest that says where it all came from.

use super::error::SaveError;
use super::pipeline::Upstream;
use crate::base_note::BaseNote;
use crate::layer::index::LayerBlob;
use crate::oci::{Descriptor, History, ImageConfig, ImageManifest, media};
use crate::scrub::{ScrubRules, scrub_base};
use bytes::Bytes;
use mothball_domain::image::Digest;
use serde_json::Map;
use std::collections::BTreeMap;

/// Where the base ends and the container begins: the number of the base's layers.
pub const BASE_LAYERS: &str = "mothball.base.layers";
/// The container that was saved.
pub const CONTAINER: &str = "mothball.container";
/// The job that saved it.
pub const JOB: &str = "mothball.job";
/// What saved it, with its version.
pub const TOOL: &str = "mothball.tool";
/// OCI's own annotation: when the image was made.
const CREATED: &str = "org.opencontainers.image.created";

/// Where a saved image comes from. Everything here can be read by whoever may pull the image.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// When it was saved, as RFC 3339.
    pub created: String,
    /// What it stands on.
    pub base: BaseNote,
    /// The container.
    pub container: Option<String>,
    /// The job.
    pub job: Option<String>,
}

/// What an image is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The base image's config, as Docker or the registry has it.
    pub base: &'a ImageConfig,
    /// The base's layers, lowest first, as [`base_layers`](super::base::base_layers) brought them.
    pub base_layers: &'a [Descriptor],
    /// Ours, oldest first.
    pub layers: &'a [LayerBlob],
    /// What to leave out of the config, and what to write into its history.
    pub rules: &'a ScrubRules,
    /// Where it comes from.
    pub provenance: &'a Provenance,
}

/// An image that is made and not yet in the registry.
#[derive(Debug, Clone)]
pub struct Assembled {
    /// The config's bytes.
    pub config: Bytes,
    /// What the manifest says of it.
    pub config_descriptor: Descriptor,
    /// The manifest's bytes.
    pub manifest: Bytes,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: &'static str,
}

/// Makes config and manifest.
pub fn assemble(parts: &Parts<'_>) -> Result<Assembled, SaveError> {
    if parts.base.rootfs.diff_ids.len() != parts.base_layers.len() {
        let (config, layers) = (parts.base.rootfs.diff_ids.len(), parts.base_layers.len());
        return Err(SaveError::Defect(format!("{config} layers in the base's config, and {layers} of it")));
    }
    let config = Bytes::from(config_of(parts).to_bytes()?);
    let config_descriptor = Descriptor::of(media::OCI_CONFIG, &config);
    let layers = parts.base_layers.iter().cloned().chain(parts.layers.iter().map(described)).collect();
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.to_owned()),
        config: config_descriptor.clone(),
        layers,
        annotations: Some(annotations(parts)),
        extra: Map::new(),
    };
    let manifest =
        serde_json::to_vec(&manifest).map_err(|e| SaveError::Defect(format!("a manifest: {e}")))?;
    Ok(Assembled {
        config,
        config_descriptor,
        digest: crate::oci::digest_of(&manifest),
        manifest: Bytes::from(manifest),
        media_type: media::OCI_MANIFEST,
    })
}

/// Brings config and manifest into the registry, the manifest by its digest and under no tag. Idempotent.
/// [`RegistryError::BlobsUnknown`](crate::RegistryError::BlobsUnknown) means that a layer got lost: the next save is a full one.
pub async fn put(to: &Upstream, image: &Assembled) -> Result<Digest, SaveError> {
    to.registry.put_blob(&to.repo, &image.config_descriptor.digest, image.config.clone()).await?;
    let reference = image.digest.as_str();
    Ok(to.registry.put_manifest(&to.repo, reference, image.media_type, image.manifest.clone()).await?)
}

fn config_of(parts: &Parts<'_>) -> ImageConfig {
    let mut config = parts.base.clone();
    config.created = Some(parts.provenance.created.clone());
    config.rootfs.diff_ids.extend(parts.layers.iter().map(|layer| layer.diff_id.clone()));
    // A base without history stays without: entries for ours alone would be read as the base's.
    if let Some(history) = &mut config.history {
        let entry = |empty_layer| History {
            created: Some(parts.provenance.created.clone()),
            created_by: Some(parts.rules.created_by.clone()),
            comment: parts.rules.comment.clone(),
            empty_layer,
            ..History::default()
        };
        if parts.layers.is_empty() {
            history.push(entry(true));
        }
        history.extend(parts.layers.iter().map(|_| entry(false)));
    }
    let settings = config.config.take().unwrap_or_default();
    scrub_base(config, &settings, parts.rules)
}

/// What a manifest says of a layer of ours.
pub(super) fn described(layer: &LayerBlob) -> Descriptor {
    Descriptor {
        media_type: layer.media_type.clone(),
        digest: layer.digest.clone(),
        size: layer.size,
        annotations: None,
        extra: Map::new(),
    }
}

fn annotations(parts: &Parts<'_>) -> BTreeMap<String, String> {
    let Provenance { created, base, container, job } = parts.provenance;
    let known = [
        (CREATED, Some(created.clone())),
        (BASE_LAYERS, Some(parts.base_layers.len().to_string())),
        (CONTAINER, container.clone()),
        (JOB, job.clone()),
        (TOOL, Some(concat!("mothball/", env!("CARGO_PKG_VERSION")).to_owned())),
    ];
    let known = known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let mut annotations = known.collect();
    base.write(&mut annotations);
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Manifest, digest_of};
    use serde_json::json;

    fn base() -> ImageConfig {
        serde_json::from_value(json!({
            "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z", "container": "abc",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": {"mothball.job": "old", "a": "b"}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(b"base")]},
            "history": [{"created_by": "ADD s3cr3t-value"}],
        }))
        .unwrap()
    }

    fn layer(name: &str) -> LayerBlob {
        LayerBlob {
            digest: digest_of(name.as_bytes()),
            size: 3,
            diff_id: digest_of(format!("{name} raw").as_bytes()),
            raw_bytes: 9,
            media_type: media::OCI_LAYER_GZIP.to_owned(),
        }
    }

    fn provenance() -> Provenance {
        let (image_id, name) = (digest_of(b"base image"), Some("registry/cuda:12".to_owned()));
        Provenance {
            created: "2026-11-25T00:00:00Z".to_owned(),
            base: BaseNote { image_id, manifest: None, name },
            container: None,
            job: Some("1".to_owned()),
        }
    }

    fn assembled(base: &ImageConfig, layers: &[LayerBlob]) -> (ImageConfig, Manifest) {
        let rules = ScrubRules {
            comment: Some("job 1".to_owned()),
            secrets: vec!["s3cr3t-value".into()],
            ..ScrubRules::default()
        };
        let provenance = provenance();
        let base_layers = [Descriptor::of(media::OCI_LAYER_GZIP, b"base blob")];
        let parts = Parts { base, base_layers: &base_layers, layers, rules: &rules, provenance: &provenance };
        let image = assemble(&parts).unwrap();
        assert_eq!(image.digest, digest_of(&image.manifest));
        let manifest = Manifest::parse("read it", image.media_type, image.manifest).unwrap();
        (ImageConfig::parse("read it", &image.config).unwrap(), manifest)
    }

    #[test]
    fn the_bases_layers_come_first_and_each_has_its_history() {
        let (config, manifest) = assembled(&base(), &[layer("old"), layer("new")]);
        let image = manifest.image().unwrap();
        let digests: Vec<_> = image.layers.iter().map(|l| l.digest.clone()).collect();
        assert_eq!(digests, [digest_of(b"base blob"), digest_of(b"old"), digest_of(b"new")]);
        assert_eq!(
            config.rootfs.diff_ids,
            [digest_of(b"base"), digest_of(b"old raw"), digest_of(b"new raw")]
        );
        let history = config.history.unwrap();
        assert_eq!((history.len(), history[2].comment.as_deref()), (3, Some("job 1")));
        assert_eq!(history[0].created_by.as_deref(), Some("ADD ***"));
        let annotations = image.annotations.clone().unwrap();
        assert_eq!((annotations[BASE_LAYERS].as_str(), annotations[JOB].as_str()), ("1", "1"));
        assert!(!annotations.contains_key(CONTAINER));
        assert_eq!(BaseNote::of(&manifest), Some(provenance().base));
    }

    #[test]
    fn it_starts_as_the_base_does_and_carries_nothing_of_a_container() {
        let (config, _) = assembled(&base(), &[layer("new")]);
        let settings = config.config.unwrap();
        assert_eq!(settings.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(settings.labels.unwrap().keys().collect::<Vec<_>>(), ["a"]);
        assert!(!config.extra.contains_key("container"));
    }

    #[test]
    fn a_container_in_which_nothing_changed_and_a_base_without_history_are_images() {
        let (config, _) = assembled(&base(), &[]);
        assert!(config.history.unwrap()[1].empty_layer);
        let bare = ImageConfig { history: None, ..base() };
        assert_eq!(assembled(&bare, &[layer("new")]).0.history, None);
    }

    #[test]
    fn layers_that_do_not_fit_the_config_are_a_defect() {
        let base = base();
        let parts = Parts {
            base: &base,
            base_layers: &[],
            layers: &[],
            rules: &ScrubRules::default(),
            provenance: &provenance(),
        };
        assert!(matches!(assemble(&parts), Err(SaveError::Defect(_))));
    }
}
