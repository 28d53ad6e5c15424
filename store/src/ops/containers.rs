//! Containers: reading them, changing what their owners may change, adopting, forgetting, and what nodes observe.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::{records, transact};
use crate::{Page, Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::billing::Usage;
use mothball_domain::container::{Container, ContainerState, Launch, Port};
use mothball_domain::id::ContainerId;
use mothball_domain::label::Labels;
use mothball_domain::name::{ContainerName, ImageName, NodeName, ProjectName, UserName};
use mothball_domain::node::Reservations;

/// Which containers a list shows: oldest first, deleted ones left out.
#[derive(Debug, Clone, Default)]
pub struct ContainerQuery {
    /// Only of this project.
    pub project: Option<ProjectName>,
    /// Only of this user.
    pub user: Option<UserName>,
    /// Only on this node.
    pub node: Option<NodeName>,
    /// Only in this state.
    pub state: Option<ContainerState>,
    /// After this one, from the last page's `next`.
    pub cursor: Option<ContainerId>,
    /// How many at most.
    pub limit: usize,
}

/// What a container's owner may change; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerChange {
    /// Whether deletion is refused.
    pub protected: Option<bool>,
    /// Free text.
    pub description: Option<String>,
    /// All of its labels.
    pub labels: Option<Labels>,
    /// Until when policies leave it alone; the inner `None` ends that.
    pub keep_until: Option<Option<Timestamp>>,
}

/// A container that Mothball did not launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedContainer {
    /// Its name from now on.
    pub name: ContainerName,
    /// The project that pays.
    pub project: ProjectName,
    /// Its owner.
    pub user: UserName,
    /// Size and price, and what it was launched from.
    pub launch: Launch,
    /// The name that images saved from it get.
    pub image_name: ImageName,
    /// The node it is on.
    pub node: NodeName,
    /// That node's uid.
    pub node_uid: String,
    /// Its Docker id there.
    pub docker_id: String,
    /// Indexes of the GPUs it holds.
    pub gpus: Vec<u32>,
    /// Where its ports can be reached.
    pub ports: Vec<Port>,
    /// Whether it runs.
    pub running: bool,
}

/// What a node sees of a container that it should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The container.
    pub id: ContainerId,
    /// Its Docker id, which the observation is about.
    pub docker_id: String,
    /// Whether it runs; none when it is not there.
    pub running: Option<bool>,
    /// Bytes in its writable layer, where they were counted.
    pub writable_bytes: Option<u64>,
}

const BATCH: usize = 200;

impl Store {
    /// One container, deleted ones included.
    pub async fn container(&self, id: ContainerId) -> Result<Option<Container>, StoreError> {
        Tx::new(&self.db).get(&keys::container(id)).await
    }

    /// The container of the project that has this name and is not deleted.
    pub async fn container_named(
        &self,
        project: &ProjectName,
        name: &ContainerName,
    ) -> Result<Option<Container>, StoreError> {
        let mut tx = Tx::new(&self.db);
        match tx.get::<ContainerId>(&keys::container_name(project, name)).await? {
            Some(id) => tx.get(&keys::container(id)).await,
            None => Ok(None),
        }
    }

    /// A page of containers.
    pub async fn containers(&self, query: &ContainerQuery) -> Result<Page<Container>, StoreError> {
        let index = match (&query.project, &query.node) {
            (Some(project), _) => keys::containers_of_project(project),
            (None, Some(node)) => keys::containers_on_node(node),
            (None, None) => keys::CONTAINERS.to_owned(),
        };
        let matches = |c: &Container| {
            query.node.as_ref().is_none_or(|n| c.node.as_ref() == Some(n))
                && query.user.as_ref().is_none_or(|u| c.user == *u)
                && query.state.is_none_or(|s| c.state == s)
        };
        let mut after = query.cursor.map(keys::container_member);
        let mut items = Vec::new();
        loop {
            let members = self.db.scan(&index, after.as_deref(), Order::Ascending, BATCH).await?;
            let ids = members.iter().filter_map(|m| m.parse().ok()).map(ContainerId);
            let container_keys: Vec<String> = ids.map(keys::container).collect();
            for container in Tx::new(&self.db).get_many::<Container>(&container_keys).await? {
                if matches(&container) {
                    if items.len() >= query.limit {
                        let next = items.last().map(|c: &Container| c.id.to_string());
                        return Ok(Page { items, next });
                    }
                    items.push(container);
                }
            }
            if members.len() < BATCH {
                return Ok(Page { items, next: None });
            }
            after = members.into_iter().next_back();
        }
    }

    /// Changes what a container's owner may change. None when there is no such container. Idempotent.
    pub async fn change_container(
        &self,
        id: ContainerId,
        change: &ContainerChange,
    ) -> Result<Option<Container>, StoreError> {
        transact!(self, |tx| change_container(tx, id, change).await)
    }

    /// Takes a container that Mothball did not launch under its care; it is billed from now. `Err` in the inner result
    /// names the container that is in the way: by its name, its Docker id, or a GPU it holds. Idempotent by the Docker
    /// id on that node.
    pub async fn adopt(
        &self,
        adopted: &AdoptedContainer,
    ) -> Result<Result<Container, ContainerId>, StoreError> {
        transact!(self, |tx| adopt(tx, adopted).await)
    }

    /// Ends the record of a container that is lost or failed, without touching its node. False when its state does not
    /// allow that.
    pub async fn forget_container(&self, id: ContainerId) -> Result<bool, StoreError> {
        transact!(self, |tx| forget(tx, id).await)
    }

    /// Writes what a node sees of its containers: running, stopped, or lost. A container with an unfinished job is left
    /// to that job. Idempotent.
    pub async fn observe(&self, node_uid: &str, seen: &Observed) -> Result<(), StoreError> {
        transact!(self, |tx| observe(tx, node_uid, seen).await)
    }
}

async fn change_container(
    tx: &mut Tx<'_>,
    id: ContainerId,
    change: &ContainerChange,
) -> Result<Option<Container>, StoreError> {
    let Some(before) = records::container(tx, id).await?.filter(|c| !c.is_gone()) else { return Ok(None) };
    let mut container = before.clone();
    container.protected = change.protected.unwrap_or(container.protected);
    if let Some(description) = &change.description {
        container.description.clone_from(description);
    }
    if let Some(labels) = &change.labels {
        container.labels.clone_from(labels);
    }
    if let Some(until) = change.keep_until {
        container.keep_until = until;
    }
    records::put_container(tx, Some(&before), &container)?;
    Ok(Some(container))
}

async fn adopt(
    tx: &mut Tx<'_>,
    adopted: &AdoptedContainer,
) -> Result<Result<Container, ContainerId>, StoreError> {
    /// More than any node runs.
    const ON_NODE_MAX: usize = 10_000;
    let name = keys::container_name(&adopted.project, &adopted.name);
    let held = keys::reservations(&adopted.node);
    // Every adoption on the node writes its reservations: of two at once the second sees the first one's container.
    tx.load(&[name.clone(), held.clone(), keys::CONTAINER_COUNTER.to_owned()]).await?;
    let now = tx.now().await?;
    let members = tx.scan(&keys::containers_on_node(&adopted.node), ON_NODE_MAX).await?;
    let ids = members.iter().filter_map(|m| m.parse().ok()).map(ContainerId);
    let there: Vec<Container> = tx.get_many(&ids.map(keys::container).collect::<Vec<_>>()).await?;
    if let Some(known) = there.into_iter().find(|c| c.docker_id.as_ref() == Some(&adopted.docker_id)) {
        let same = known.name == adopted.name && known.project == adopted.project;
        return Ok(if same { Ok(known) } else { Err(known.id) });
    }
    if let Some(taken) = tx.get(&name).await? {
        return Ok(Err(taken));
    }
    let mut reservations: Reservations = tx.get(&held).await?.unwrap_or_default();
    let shared = reservations.held.iter().find(|(_, gpus)| gpus.iter().any(|g| adopted.gpus.contains(g)));
    if let Some((holder, _)) = shared {
        return Ok(Err(*holder));
    }
    let number: u64 = tx.get(keys::CONTAINER_COUNTER).await?.unwrap_or(0) + 1;
    tx.put(keys::CONTAINER_COUNTER, &number)?;
    let mut container = Container {
        id: ContainerId(number),
        name: adopted.name.clone(),
        project: adopted.project.clone(),
        user: adopted.user.clone(),
        state: if adopted.running { ContainerState::Ready } else { ContainerState::Stopped },
        launch: adopted.launch.clone(),
        image_name: adopted.image_name.clone(),
        node: Some(adopted.node.clone()),
        node_uid: Some(adopted.node_uid.clone()),
        docker_id: Some(adopted.docker_id.clone()),
        gpus: adopted.gpus.clone(),
        ports: adopted.ports.clone(),
        writable_bytes: None,
        protected: false,
        description: String::new(),
        labels: Labels::default(),
        keep_until: None,
        job: None,
        parked_image: None,
        parked_flavor: None,
        created_at: now,
        metered: Vec::new(),
        metered_before: 0,
        used_before: Usage::default(),
        reason: None,
        adopted: true,
    };
    container.start_billing(now);
    reservations.held.insert(container.id, adopted.gpus.clone());
    tx.put(&held, &reservations)?;
    records::put_container(tx, None, &container)?;
    Ok(Ok(container))
}

async fn forget(tx: &mut Tx<'_>, id: ContainerId) -> Result<bool, StoreError> {
    let Some(before) = records::container(tx, id).await? else { return Ok(false) };
    let now = tx.now().await?;
    let busy = match before.job {
        Some(job) => records::job(tx, job).await?.is_some_and(|job| !job.state.is_final()),
        None => false,
    };
    if busy || !matches!(before.state, ContainerState::Lost | ContainerState::Error) {
        return Ok(false);
    }
    let mut container = before.clone();
    container.stop_metering(now);
    records::note_used(tx, &container).await?;
    container.state = ContainerState::Deleted;
    container.reason = Some("forgotten".to_owned());
    records::release_place(tx, &mut container).await?;
    records::put_container(tx, Some(&before), &container)?;
    Ok(true)
}

async fn observe(tx: &mut Tx<'_>, node_uid: &str, seen: &Observed) -> Result<(), StoreError> {
    let Some(before) = records::container(tx, seen.id).await? else { return Ok(()) };
    let now = tx.now().await?;
    let ours =
        before.node_uid.as_deref() == Some(node_uid) && before.docker_id.as_ref() == Some(&seen.docker_id);
    let busy = match before.job {
        Some(job) => records::job(tx, job).await?.is_some_and(|job| !job.state.is_final()),
        None => false,
    };
    if !ours || busy {
        return Ok(());
    }
    let mut container = before.clone();
    container.writable_bytes = seen.writable_bytes.or(container.writable_bytes);
    let state = match seen.running {
        Some(true) => ContainerState::Ready,
        Some(false) => ContainerState::Stopped,
        None => ContainerState::Lost,
    };
    // A failed launch stays an error, whatever is left of it on the node.
    if container.state.exists() && container.state != state {
        container.state = state;
        if state == ContainerState::Lost {
            container.stop_metering(now);
            container.reason = Some("its node does not have it any more".to_owned());
        } else {
            container.start_billing(now);
            container.reason = None;
        }
    }
    if container != before {
        records::put_container(tx, Some(&before), &container)?;
    }
    Ok(())
}
