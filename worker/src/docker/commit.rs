//! Docker commit.

use super::{DockerError, Engine};
use bollard::models::ContainerConfig;
use bollard::query_parameters::CommitContainerOptionsBuilder;
use std::collections::BTreeMap;

/// How a container becomes an image of the node.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// The container.
    pub container: String,
    /// The image's repository; empty for an image without a name.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Labels that the image gets on top of the container's, or in place of them.
    pub labels: BTreeMap<String, String>,
    /// Environment in place of the container's. Docker merges: a name can be overwritten, not taken away.
    pub env: BTreeMap<String, String>,
    /// What the image's history says about it.
    pub comment: String,
    /// Whether Docker freezes the container meanwhile. False when the caller holds it frozen: Docker would thaw it.
    pub pause: bool,
}

impl Engine {
    /// Copies the writable layer into an image; answers its id. Not idempotent, and cannot be stopped: Docker finishes
    /// even after its client is gone (tried). So look for the label of an earlier attempt first.
    pub async fn commit(&self, request: &CommitRequest) -> Result<String, DockerError> {
        let options = CommitContainerOptionsBuilder::default()
            .container(&request.container)
            .repo(&request.repository)
            .tag(&request.tag)
            .comment(&request.comment)
            .pause(request.pause)
            .build();
        // In the body and not as `changes`, whose Dockerfile syntax expands `$` and trips over quotes.
        let config = ContainerConfig {
            labels: (!request.labels.is_empty()).then(|| request.labels.clone().into_iter().collect()),
            env: (!request.env.is_empty())
                .then(|| request.env.iter().map(|(k, v)| format!("{k}={v}")).collect()),
            ..ContainerConfig::default()
        };
        let answer = self
            .call("commit container", self.limits.commit, |d| async move {
                d.commit_container(options, config).await
            })
            .await?;
        Ok(answer.id)
    }
}
