//! Manifests, indexes and what they point to.

use super::media;
use crate::error::RegistryError;
use bytes::Bytes;
use mothball_domain::image::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// What points to a blob or a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What kind of thing it is.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Its content's digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What this program does not know of.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Descriptor {
    /// Describes `bytes`.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.into(),
            digest: digest_of(bytes),
            size: bytes.len() as u64,
            annotations: None,
            extra: Map::new(),
        }
    }
}

/// The SHA-256 digest of `bytes`.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageManifest {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// The manifest's own media type; OCI lets it be absent.
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The config blob.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// Notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What this program does not know of.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An index of several manifests (Docker calls it a list), one for each platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageIndex {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// The index's own media type; OCI lets it be absent.
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// What this program does not know of.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a manifest holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// One image.
    Image(ImageManifest),
    /// Several.
    Index(ImageIndex),
}

/// A manifest as it lies in the registry, byte for byte, and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The media type.
    pub media_type: String,
    /// The manifest's bytes.
    pub bytes: Bytes,
    /// What it says.
    pub content: Content,
}

impl Manifest {
    /// Reads a manifest. The media type that the registry names and the one inside must agree, and a
    /// text that could be read as image and as index is refused: two readers would see two images.
    pub fn parse(what: &str, media_type: &str, bytes: Bytes) -> Result<Self, RegistryError> {
        let wrong = |detail: String| RegistryError::Protocol { what: what.to_owned(), detail };
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| wrong(format!("no JSON: {e}")))?;
        if value.get("manifests").is_some() && value.get("layers").is_some() {
            return Err(wrong("a manifest with layers and with manifests".to_owned()));
        }
        if let Some(inner) = value.get("mediaType").and_then(Value::as_str)
            && inner != media_type
        {
            return Err(wrong(format!("sent as {media_type:.80}, but calls itself {inner:.80}")));
        }
        let content = match media_type.as_str() {
            media::DOCKER_MANIFEST | media::OCI_MANIFEST => {
                Content::Image(serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?)
            }
            media::DOCKER_LIST | media::OCI_INDEX => {
                Content::Index(serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?)
            }
            other => return Err(wrong(format!("a manifest of type {other:.80}"))),
        };
        Ok(Self { digest: digest_of(&bytes), media_type, bytes, content })
    }

    /// The manifest of the one image that this is, or the error that it is an index.
    pub fn image(&self) -> Result<&ImageManifest, RegistryError> {
        match &self.content {
            Content::Image(image) => Ok(image),
            Content::Index(_) => {
                Err(RegistryError::Index { what: format!("read {} as an image", self.digest) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn image() -> Value {
        json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": {"mediaType": media::OCI_CONFIG, "digest": digest_of(b"c"), "size": 1, "data": "Yw=="},
            "layers": [{"mediaType": media::OCI_LAYER_GZIP, "digest": digest_of(b"l"), "size": 1,
                        "urls": ["https://a"], "annotations": {"x": "y"}}],
            "annotations": {"a": "b"}, "subject": {"future": true},
        })
    }

    fn parse(media_type: &str, value: &Value) -> Result<Manifest, RegistryError> {
        Manifest::parse("read it", media_type, Bytes::from(value.to_string()))
    }

    #[test]
    fn what_is_not_known_survives() {
        let value = image();
        let manifest = parse(&format!("{}; charset=utf-8", media::OCI_MANIFEST), &value).unwrap();
        assert_eq!(serde_json::to_value(manifest.image().unwrap()).unwrap(), value);
    }

    #[test]
    fn an_index_is_no_image() {
        let list = json!({"schemaVersion": 2, "manifests": []});
        let manifest = parse(media::OCI_INDEX, &list).unwrap();
        assert!(matches!(manifest.image(), Err(RegistryError::Index { .. })));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let mut both = image();
        both["manifests"] = json!([]);
        for (media_type, value) in [
            (media::OCI_MANIFEST, both),
            (media::DOCKER_MANIFEST, image()),
            ("text/html", image()),
            (media::OCI_MANIFEST, json!([])),
            (media::OCI_INDEX, json!({"schemaVersion": 2})),
        ] {
            assert!(matches!(parse(media_type, &value), Err(RegistryError::Protocol { .. })), "{media_type}");
        }
    }
}
