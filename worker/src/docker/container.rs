//! Looking at containers.

use super::{CONTAINER_LABEL, ContainerFacts, ContainerStatus, DockerError, Engine};
use bollard::query_parameters::{
    InspectContainerOptions, InspectContainerOptionsBuilder, ListContainersOptionsBuilder,
};
use std::collections::{BTreeMap, HashMap};

/// A container with Mothball's label, as the list tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledContainer {
    /// Its Docker id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub status: ContainerStatus,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Engine {
    /// What Docker knows of a container, by id or name; none when it does not exist. Changes nothing.
    pub async fn inspect(&self, container: &str) -> Result<Option<ContainerFacts>, DockerError> {
        let what = "inspect container";
        let answer = self
            .call(what, self.limits.call, |d| async move {
                d.inspect_container(container, None::<InspectContainerOptions>).await
            })
            .await;
        found(answer).map(|a| a.map(ContainerFacts::read))
    }

    /// Bytes in its writable layer. Docker walks the layer for this: with a million files it takes a while.
    pub async fn writable_bytes(&self, container: &str) -> Result<u64, DockerError> {
        let what = "measure writable layer";
        let options = InspectContainerOptionsBuilder::default().size(true).build();
        let answer =
            self.call(what, self.limits.slow, |d| async move {
                d.inspect_container(container, Some(options)).await
            })
            .await?;
        let bytes = answer.size_rw.and_then(|n| u64::try_from(n).ok());
        bytes.ok_or_else(|| DockerError::Answer { what, reason: "no size".into() })
    }

    /// Every container of the node, stopped ones included: its id and its image's id.
    pub async fn list_all(&self) -> Result<Vec<(String, String)>, DockerError> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let answer =
            self.call("list containers", self.limits.call, |d| async move {
                d.list_containers(Some(options)).await
            })
            .await?;
        Ok(answer.into_iter().map(|c| (c.id.unwrap_or_default(), c.image_id.unwrap_or_default())).collect())
    }

    /// Every container with the label `mothball.container`, stopped ones included. Labels only suggest: a stranger's
    /// container can carry them, because commits copy labels into images.
    pub async fn list_labelled(&self) -> Result<Vec<LabelledContainer>, DockerError> {
        let filters = HashMap::from([("label", vec![CONTAINER_LABEL])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let answer =
            self.call("list containers", self.limits.call, |d| async move {
                d.list_containers(Some(options)).await
            })
            .await?;
        Ok(answer
            .into_iter()
            .map(|c| LabelledContainer {
                id: c.id.unwrap_or_default(),
                name: c
                    .names
                    .and_then(|n| n.into_iter().next())
                    .unwrap_or_default()
                    .trim_start_matches('/')
                    .into(),
                status: c.state.map_or(ContainerStatus::Exited, |s| ContainerStatus::from_text(s.as_ref())),
                labels: c.labels.unwrap_or_default().into_iter().collect(),
            })
            .collect())
    }
}

/// Turns "not found" into none.
pub(super) fn found<T>(answer: Result<T, DockerError>) -> Result<Option<T>, DockerError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}
