//! What a saved image says of its base, in its manifest's annotations: enough to make a container of the base and fill it
//! with the rest.

use crate::oci::{Content, Manifest};
use mothball_domain::image::Digest;
use std::collections::BTreeMap;

/// OCI's own annotation: the digest of the base's manifest, in the same repository.
const MANIFEST: &str = "org.opencontainers.image.base.digest";
/// OCI's own annotation: what the base is called.
const NAME: &str = "org.opencontainers.image.base.name";
/// Ours: the base image's id, the digest of its config.
const IMAGE_ID: &str = "mothball.base.image";

/// The base of a saved image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseNote {
    /// The image's id: the digest of its config. Two images with one id are one image.
    pub image_id: Digest,
    /// Its manifest, in the repository of the saved image; none where it was not put there.
    pub manifest: Option<Digest>,
    /// What its users call it.
    pub name: Option<String>,
}

impl BaseNote {
    /// What a manifest says; nothing where it does not, as in images that Docker pushed.
    pub fn of(manifest: &Manifest) -> Option<Self> {
        let Content::Image(image) = &manifest.content else { return None };
        let said = image.annotations.as_ref()?;
        let digest = |key: &str| Digest::new(said.get(key)?.as_str()).ok();
        Some(Self { image_id: digest(IMAGE_ID)?, manifest: digest(MANIFEST), name: said.get(NAME).cloned() })
    }

    /// Writes it among a manifest's annotations.
    pub fn write(&self, annotations: &mut BTreeMap<String, String>) {
        annotations.insert(IMAGE_ID.to_owned(), self.image_id.to_string());
        let others = [(MANIFEST, self.manifest.as_ref().map(ToString::to_string)), (NAME, self.name.clone())];
        for (key, value) in others {
            if let Some(value) = value {
                annotations.insert(key.to_owned(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::media;
    use serde_json::json;

    fn manifest(annotations: &serde_json::Value) -> Manifest {
        let config =
            json!({"mediaType": media::OCI_CONFIG, "digest": Digest::from_sha256([1; 32]), "size": 1});
        let text = json!({"schemaVersion": 2, "config": config, "layers": [], "annotations": annotations});
        Manifest::parse("read it", media::OCI_MANIFEST, text.to_string().into()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let whole = BaseNote {
            image_id: Digest::from_sha256([2; 32]),
            manifest: Some(Digest::from_sha256([3; 32])),
            name: Some("base:latest".to_owned()),
        };
        for note in [whole.clone(), BaseNote { manifest: None, name: None, ..whole }] {
            let mut annotations = BTreeMap::new();
            note.write(&mut annotations);
            assert_eq!(BaseNote::of(&manifest(&json!(annotations))), Some(note));
        }
    }

    #[test]
    fn an_image_of_somebody_else_says_nothing() {
        assert_eq!(BaseNote::of(&manifest(&json!(null))), None);
        assert_eq!(BaseNote::of(&manifest(&json!({"mothball.base.image": "no digest"}))), None);
    }
}
