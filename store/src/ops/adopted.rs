//! What an adopted container was launched with, as its node sees it.

use crate::db::tx::Tx;
use crate::ops::{records, transact};
use crate::{Store, StoreError};
use mothball_domain::container::{Container, Mount, Port, Source};
use mothball_domain::id::ContainerId;
use std::collections::BTreeMap;

/// What Docker says that a container was launched with: all of it that a wake can bring back.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SeenLaunch {
    /// Environment on top of its image's. May hold secrets.
    pub env: BTreeMap<String, String>,
    /// Mounts, with their paths on the node.
    pub mounts: Vec<Mount>,
    /// Ports that it publishes.
    pub ports: Vec<u16>,
    /// Where they can be reached; empty while it does not run.
    pub published: Vec<Port>,
}

/// Shows the names of the environment and never its values.
impl std::fmt::Debug for SeenLaunch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeenLaunch")
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("mounts", &self.mounts)
            .field("ports", &self.ports)
            .field("published", &self.published)
            .finish()
    }
}

impl SeenLaunch {
    /// Puts it into a container's record.
    pub fn put_into(&self, container: &mut Container) {
        let launch = &mut container.launch;
        launch.env.clone_from(&self.env);
        launch.mounts.clone_from(&self.mounts);
        launch.ports.clone_from(&self.ports);
        if !self.published.is_empty() {
            container.ports.clone_from(&self.published);
        }
    }

    /// Whether a container's record says so already.
    pub fn is_in(&self, container: &Container) -> bool {
        let mut with_it = container.clone();
        self.put_into(&mut with_it);
        with_it == *container
    }
}

impl Store {
    /// Writes down what an adopted container was launched with. Nothing happens where the container is another by now: gone,
    /// woken, or on another node. Atomic; idempotent.
    pub async fn record_launch(
        &self,
        node_uid: &str,
        id: ContainerId,
        docker_id: &str,
        seen: &SeenLaunch,
    ) -> Result<(), StoreError> {
        transact!(self, |tx| record_launch(tx, node_uid, id, docker_id, seen).await)
    }
}

async fn record_launch(
    tx: &mut Tx<'_>,
    node_uid: &str,
    id: ContainerId,
    docker_id: &str,
    seen: &SeenLaunch,
) -> Result<(), StoreError> {
    let Some(before) = records::container(tx, id).await? else { return Ok(()) };
    let is_it = before.adopted
        && matches!(before.launch.source, Source::Adopted { .. })
        && before.node_uid.as_deref() == Some(node_uid)
        && before.docker_id.as_deref() == Some(docker_id);
    if is_it && !seen.is_in(&before) {
        let mut container = before.clone();
        seen.put_into(&mut container);
        records::put_container(tx, Some(&before), &container)?;
    }
    Ok(())
}
