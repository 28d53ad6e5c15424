//! Whether an image may be restored in place on the base that a node has.

use crate::layer::index::Base;
use crate::oci::{Descriptor, ImageConfig, ImageManifest};
use mothball_domain::image::Digest;

/// One layer that stands above the base.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnLayer {
    /// The compressed layer in the registry.
    pub blob: Descriptor,
    /// The digest of its tar.
    pub diff_id: Digest,
}

/// What is to be restored.
#[derive(Debug, Clone, PartialEq)]
pub struct RestorePlan {
    /// What the container was created from.
    pub base: Base,
    /// The image's layers above the base, oldest first.
    pub layers: Vec<OwnLayer>,
    /// The paths of the image's anonymous volumes: a layer that holds something there is refused while it is unpacked.
    pub volumes: Vec<String>,
}

impl RestorePlan {
    /// Bytes to fetch.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.blob.size).sum()
    }
}

/// Plans the restore of an image into a container that was made from `base`, an image that the node has.
/// Otherwise says why not, as a clause after "the image cannot be restored in place:"; the image is to be pulled then.
pub fn plan(manifest: &ImageManifest, config: &ImageConfig, base: &Base) -> Result<RestorePlan, String> {
    let (diff_ids, below) = (&config.rootfs.diff_ids, &base.diff_ids);
    if diff_ids.len() != manifest.layers.len() {
        return Err(format!(
            "its config names {} layers, its manifest {}",
            diff_ids.len(),
            manifest.layers.len()
        ));
    }
    if below.is_empty() {
        return Err("the local base image has no layers".to_owned());
    }
    let Some(own) = diff_ids.strip_prefix(below.as_slice()) else {
        let same = diff_ids.iter().zip(below).take_while(|(saved, local)| saved == local).count();
        return Err(format!(
            "it does not stand on the local base image: {same} of the base's {} layers are the same",
            below.len()
        ));
    };
    let layers: Vec<OwnLayer> = manifest.layers[below.len()..]
        .iter()
        .zip(own)
        .map(|(blob, diff_id)| OwnLayer { blob: blob.clone(), diff_id: diff_id.clone() })
        .collect();
    if let Some(layer) = layers.iter().find(|layer| !is_layer(&layer.blob)) {
        return Err(format!("layer {} is of type {:.80}", layer.blob.digest, layer.blob.media_type));
    }
    let volumes = config.config.iter().filter_map(|c| c.volumes.as_ref()).flat_map(|v| v.keys().cloned());
    Ok(RestorePlan { base: base.clone(), layers, volumes: volumes.collect() })
}

/// Whether a blob is a layer that is kept in the registry itself. How it is compressed shows in its first bytes.
fn is_layer(blob: &Descriptor) -> bool {
    let kind = blob.media_type.as_str();
    let kept =
        !kind.contains("nondistributable") && !kind.contains("foreign") && !blob.extra.contains_key("urls");
    kept && (kind.starts_with("application/vnd.docker.image.rootfs.diff.tar")
        || kind.starts_with("application/vnd.oci.image.layer.v1.tar"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{digest_of, media};
    use serde_json::{Value, json};

    fn image(layers: &[(&str, &str)], volumes: &Value) -> (ImageManifest, ImageConfig) {
        let described: Vec<Descriptor> =
            layers.iter().map(|(name, kind)| Descriptor::of(*kind, name.as_bytes())).collect();
        let diff_ids: Vec<Digest> = layers.iter().map(|(name, _)| diff_id(name)).collect();
        let config = Descriptor::of(media::OCI_CONFIG, b"config");
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": described});
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Volumes": volumes},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        (serde_json::from_value(manifest).unwrap(), serde_json::from_value(config).unwrap())
    }

    fn diff_id(name: &str) -> Digest {
        digest_of(format!("tar of {name}").as_bytes())
    }

    fn base(names: &[&str]) -> Base {
        Base { image_id: "base".to_owned(), diff_ids: names.iter().map(|name| diff_id(name)).collect() }
    }

    const GZIP: &str = media::DOCKER_LAYER_GZIP;

    #[test]
    fn what_stands_above_the_base_is_restored() {
        let volumes = json!({"/data": {}, "/var/lib/x": {}});
        let (manifest, config) =
            image(&[("base", GZIP), ("one", GZIP), ("two", media::OCI_LAYER_ZSTD)], &volumes);
        let plan = plan(&manifest, &config, &base(&["base"])).unwrap();
        let own: Vec<_> = plan.layers.iter().map(|l| (l.blob.digest.clone(), l.diff_id.clone())).collect();
        assert_eq!(own, [(digest_of(b"one"), diff_id("one")), (digest_of(b"two"), diff_id("two"))]);
        assert_eq!((plan.bytes(), plan.volumes), (6, vec!["/data".to_owned(), "/var/lib/x".to_owned()]));
    }

    #[test]
    fn an_image_that_is_its_base_needs_nothing() {
        let (manifest, config) = image(&[("base", GZIP)], &Value::Null);
        assert!(plan(&manifest, &config, &base(&["base"])).unwrap().layers.is_empty());
    }

    #[test]
    fn anything_else_is_pulled_and_says_why() {
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let (manifest, config) = image(&[("base", GZIP), ("mid", GZIP), ("one", GZIP)], &Value::Null);
        for (names, word) in [
            (&[][..], "no layers"),
            (&["other"], "0 of the base's 1"),
            (&["base", "other"], "1 of the base's 2"),
            (&["base", "mid", "one", "more"], "3 of the base's 4"),
        ] {
            let reason = plan(&manifest, &config, &base(names)).unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
        for kind in [foreign, "application/json", "application/vnd.oci.image.layer.nondistributable.v1.tar"] {
            let (manifest, config) = image(&[("base", GZIP), ("one", kind)], &Value::Null);
            let reason = plan(&manifest, &config, &base(&["base"])).unwrap_err();
            assert!(reason.contains("is of type"), "{reason}");
        }
        let (_, mut short) = image(&[("base", GZIP), ("one", GZIP)], &Value::Null);
        short.rootfs.diff_ids.pop();
        assert!(plan(&manifest, &short, &base(&["base"])).unwrap_err().contains("names 1 layers"));
    }
}
