//! Images on the node.

use super::{DockerError, Engine, container::found, facts::timestamp};
use bollard::models::ImageInspect;
use bollard::query_parameters::{
    ListImagesOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// What Docker knows of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFacts {
    /// Its id: the digest of its configuration, or with containerd's store of its manifest.
    pub id: String,
    /// `repo:tag` on this node.
    pub repo_tags: Vec<String>,
    /// `repo@digest` for every registry that it came from or went to.
    pub repo_digests: Vec<String>,
    /// Its `config` as in an OCI image configuration: Env, Cmd, Entrypoint, User, WorkingDir, Labels, Volumes,
    /// ExposedPorts, StopSignal, and Docker's Healthcheck, Shell, OnBuild. Keys without a value are left out.
    pub config: Value,
    /// Digests of its uncompressed layers, lowest first.
    pub diff_ids: Vec<String>,
    /// Bytes of its uncompressed layers.
    pub size_bytes: u64,
    /// The architecture, in OCI's word.
    pub architecture: String,
    /// The architecture's variant.
    pub variant: Option<String>,
    /// The operating system.
    pub os: String,
    /// When it was made.
    pub created_at: Option<Timestamp>,
}

/// An image that was found by a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledImage {
    /// Its id.
    pub id: String,
    /// `repo:tag` on this node.
    pub repo_tags: Vec<String>,
}

/// How the removal of an image ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageRemoval {
    /// The reference is gone, and the image with it when nothing else needs it.
    Removed,
    /// It was not there.
    NotFound,
    /// A container or another image needs it.
    InUse,
}

impl Engine {
    /// What Docker knows of an image, by reference or id; none when the node has none. Changes nothing.
    pub async fn image(&self, reference: &str) -> Result<Option<ImageFacts>, DockerError> {
        let answer = self.inspect_image("inspect image", reference).await;
        Ok(found(answer)?.map(read))
    }

    pub(super) async fn image_id(&self, reference: &str) -> Result<String, DockerError> {
        let answer = self.inspect_image("inspect image", reference).await?;
        Ok(answer.id.unwrap_or_default())
    }

    async fn inspect_image(&self, what: &'static str, reference: &str) -> Result<ImageInspect, DockerError> {
        self.call(what, self.limits.call, |d| async move { d.inspect_image(reference).await }).await
    }

    /// Images that carry the label `key` with `value`.
    pub async fn images_with_label(&self, key: &str, value: &str) -> Result<Vec<LabelledImage>, DockerError> {
        let filters = HashMap::from([("label", vec![format!("{key}={value}")])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let answer = self
            .call("list images", self.limits.call, |d| async move { d.list_images(Some(options)).await })
            .await?;
        // Docker writes `<none>:<none>` for an image without a tag.
        let tags = |all: Vec<String>| all.into_iter().filter(|t| !t.starts_with("<none>")).collect();
        Ok(answer.into_iter().map(|i| LabelledImage { id: i.id, repo_tags: tags(i.repo_tags) }).collect())
    }

    /// Every image that carries the label `key`, with its value.
    pub async fn images_labelled(&self, key: &str) -> Result<Vec<(String, String)>, DockerError> {
        let filters = HashMap::from([("label", vec![key.to_owned()])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let answer = self
            .call("list images", self.limits.call, |d| async move { d.list_images(Some(options)).await })
            .await?;
        Ok(answer.into_iter().filter_map(|i| Some((i.id, i.labels.get(key)?.clone()))).collect())
    }

    /// Gives an image one more `repo:tag`; a tag that was elsewhere moves. Idempotent.
    pub async fn tag_image(&self, image: &str, repository: &str, tag: &str) -> Result<(), DockerError> {
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        self.call("tag image", self.limits.call, |d| async move { d.tag_image(image, Some(options)).await })
            .await
    }

    /// Removes an image by reference or id. Idempotent.
    pub async fn remove_image(&self, reference: &str, force: bool) -> Result<ImageRemoval, DockerError> {
        let options = RemoveImageOptionsBuilder::default().force(force).build();
        let done = self
            .call("remove image", self.limits.slow, |d| async move {
                d.remove_image(reference, Some(options), None).await
            })
            .await;
        match done {
            Ok(_) => Ok(ImageRemoval::Removed),
            Err(DockerError::Refused { status: 404, .. }) => Ok(ImageRemoval::NotFound),
            Err(DockerError::Refused { status: 409, .. }) => Ok(ImageRemoval::InUse),
            Err(e) => Err(e),
        }
    }
}

fn read(answer: ImageInspect) -> ImageFacts {
    // It holds strings, numbers and lists only. Absent keys are left out by its own rules; empty ones here.
    let mut config =
        answer.config.and_then(|c| serde_json::to_value(c).ok()).unwrap_or(Value::Object(Map::new()));
    if let Some(keys) = config.as_object_mut() {
        keys.retain(|_, v| !(v.is_null() || *v == "" || *v == false));
    }
    ImageFacts {
        id: answer.id.unwrap_or_default(),
        repo_tags: answer.repo_tags.unwrap_or_default(),
        repo_digests: answer.repo_digests.unwrap_or_default(),
        config,
        diff_ids: answer.root_fs.and_then(|r| r.layers).unwrap_or_default(),
        size_bytes: answer.size.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        architecture: answer.architecture.unwrap_or_default(),
        variant: answer.variant.filter(|v| !v.is_empty()),
        os: answer.os.unwrap_or_default(),
        created_at: timestamp(answer.created.as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_configuration_is_one_that_an_image_can_carry() {
        let answer = json!({
            "Id": "sha256:ab",
            "Config": {
                "Hostname": "", "User": "", "Env": ["PATH=/bin"], "Cmd": ["/a"], "Volumes": {"/data": {}},
                "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b"}, "Entrypoint": null, "OnBuild": null,
                "StopSignal": "SIGINT", "Healthcheck": {"Test": ["CMD", "/h"]}, "Image": "sha256:cd", "ArgsEscaped": false,
            },
            "RootFS": {"Type": "layers", "Layers": ["sha256:01", "sha256:02"]},
            "Size": 7,
        });
        let facts = read(serde_json::from_value(answer).unwrap());
        assert_eq!(
            facts.config,
            json!({
                "Env": ["PATH=/bin"], "Cmd": ["/a"], "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}},
                "Labels": {"a": "b"}, "StopSignal": "SIGINT", "Healthcheck": {"Test": ["CMD", "/h"]},
            })
        );
        assert_eq!((facts.diff_ids.len(), facts.size_bytes), (2, 7));
    }
}
